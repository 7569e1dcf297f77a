"""The graphed steps of SAC, TD3 and DQN update as SB3 does: here without a graph, as on a CPU."""

from typing import Any

import pytest
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.utils import LinearSchedule

from optimize.agents.graphed.dqn import GraphedDQN
from optimize.agents.graphed.sac import GraphedSAC
from optimize.agents.graphed.td3 import GraphedTD3
from tests.optimize.agents.compiled.off_policy_support import train_both
from tests.optimize.agents.compiled.support import furthest
from tests.optimize.agents.graphed.support import off_policy_pair, same_log

FALLING = LinearSchedule(0.003, 0.0001, 1.0)


@pytest.mark.parametrize(
    ("graphed", "stock", "settings"),
    [
        (GraphedSAC, SAC, {"ent_coef": 0.1, "target_update_interval": 3, "n_steps": 3, "relu": False}),
        (GraphedSAC, SAC, {"ent_coef": "auto_0.1", "assets": 2, "learning_rate": FALLING, "tau": 0.5}),
        (GraphedTD3, TD3, {"assets": 2, "learning_rate": FALLING, "n_steps": 2}),
        (GraphedTD3, TD3, {"policy_delay": 3, "target_policy_noise": 0.5, "target_noise_clip": 0.3}),
        (GraphedDQN, DQN, {"learning_rate": FALLING, "n_steps": 2}),
        (GraphedDQN, DQN, {"max_grad_norm": 0.01, "relu": False}),
    ],
)
def test_a_hundred_updates_are_those_of_sb3(
    graphed: type[Any], stock: type[Any], settings: dict[str, Any]
) -> None:
    if stock is DQN:
        settings = settings | {"action": "discrete"}
    ours, theirs = off_policy_pair(graphed, stock, **settings)
    train_both(ours, theirs, updates=10, times=10)
    assert ours._n_updates == theirs._n_updates == 100
    assert furthest(ours, theirs) < 1e-5
    same_log(ours, theirs)
