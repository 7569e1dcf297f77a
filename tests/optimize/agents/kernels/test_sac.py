"""SAC: the same transitions, batches and noise through SB3's train() and through ours."""

from typing import Any

import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.utils import LinearSchedule

from optimize.agents.kernels.off_policy.sac import CompiledSAC
from tests.optimize.agents.kernels.off_policy_support import check_together, same_steps

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear, one step ahead": {"net": {"pi": [], "qf": [16]}, "gamma": 0.0, "n_steps": 2},
    "decay": {"decay": 1.0},
    "tanh, three layers": {"net": [20, 12, 8], "relu": False},
    "one layer, fixed temperature": {"net": [12], "ent_coef": 0.05},
    "different networks": {"net": {"pi": [10], "qf": [8, 9]}, "ent_coef": "auto_0.1", "target_entropy": -0.3},
    "n steps, slow target": {"n_steps": 3, "target_update_interval": 3, "tau": 0.1, "gamma": 0.9},
    "n steps in a full replay": {"n_steps": 4, "buffer_size": 100},
    "many assets": {"assets": 3},
    "long only": {"long_only": True, "learning_rate": LinearSchedule(0.003, 0.0, 1.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_weights_stay_together_for_300_updates(name: str) -> None:
    ours, stock = same_steps(CompiledSAC, SAC, **SETTINGS[name])
    check_together(ours, stock)
    assert ours._flat_actor.steps() == ours._flat_critics.steps() == 300
    if stock.log_ent_coef is not None:
        assert abs(ours.log_ent_coef - stock.log_ent_coef).item() < 1e-5
        assert ours._flat_temperature.steps() == 300
