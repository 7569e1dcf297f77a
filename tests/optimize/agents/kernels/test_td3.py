"""TD3: the same transitions, batches and noise through SB3's train() and through ours."""

from typing import Any

import pytest
from stable_baselines3 import TD3

from optimize.agents.kernels.off_policy.td3 import CompiledTD3
from tests.optimize.agents.kernels.off_policy_support import check_together, same_steps

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear, one step ahead": {"net": {"pi": [], "qf": [16]}, "gamma": 0.0, "n_steps": 2},
    "decay": {"decay": 1.0},
    "tanh, three layers": {"net": [20, 12, 8], "relu": False, "policy_delay": 3},
    "one layer": {"net": [12], "policy_delay": 1, "target_policy_noise": 0.0},
    "different networks": {"net": {"pi": [10], "qf": [8, 9]}, "n_steps": 4, "tau": 0.1},
    "many assets": {"assets": 3, "target_noise_clip": 0.1, "gamma": 0.9},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_weights_stay_together_for_300_updates(name: str) -> None:
    ours, stock = same_steps(CompiledTD3, TD3, **SETTINGS[name])
    check_together(ours, stock)
    delay = ours.policy_delay
    assert ours._flat_actor.steps() == 300 // delay
    assert ours._flat_critics.steps() == 300
