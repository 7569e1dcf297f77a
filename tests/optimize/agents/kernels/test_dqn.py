"""DQN: the same transitions and batches through SB3's train() and through ours."""

from typing import Any

import pytest
from stable_baselines3 import DQN

from optimize.agents.kernels.off_policy.dqn import CompiledDQN
from tests.optimize.agents.kernels.off_policy_support import check_together, same_steps

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear, one step ahead": {"net": [], "gamma": 0.0, "n_steps": 2},
    "decay": {"decay": 1.0},
    "tanh, three layers": {"net": [20, 12, 8], "relu": False},
    "one layer, long only": {"net": [12], "long_only": True, "max_grad_norm": 0.01},
    "n steps": {"n_steps": 3, "gamma": 0.9},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_weights_stay_together_for_300_updates(name: str) -> None:
    ours, stock = same_steps(CompiledDQN, DQN, action="discrete", **SETTINGS[name])
    check_together(ours, stock)
    assert ours._flat_values.steps() == 300
