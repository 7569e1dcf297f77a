"""Rewards: the net log return, its floor and the registry."""

import numpy as np
import pytest

from envs.errors import BadInputError
from envs.rewards import RUIN_FLOOR, RewardSpec


def test_net_log_return_is_floored() -> None:
    reward = np.empty(4)
    RewardSpec().function()(np.array([1.0, 2.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1e-9]), reward)
    np.testing.assert_allclose(reward, [0.0, np.log(0.5), np.log(RUIN_FLOOR), np.log(RUIN_FLOOR)])


def test_unknown_reward_lists_the_choices() -> None:
    with pytest.raises(BadInputError, match=r"reward\.name='profit'.*one of net_log_return"):
        RewardSpec("profit")
