"""A2C: the same rollout through SB3's train() and through ours."""

from typing import Any

import numpy as np
import pytest
from stable_baselines3 import A2C

from optimize.agents.kernels.on_policy.a2c import CompiledA2C
from tests.optimize.agents.kernels.support import collect, furthest, hand_over, make_model, make_vec_env

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"learning_rate": 0.0007},
    "Adam": {"use_rms_prop": False},
    "normalised": {"normalize_advantage": True, "ent_coef": 0.02, "gae_lambda": 0.9, "pi": [8], "vf": [9, 7]},
    "linear, one step ahead": {"pi": [], "vf": [], "gamma": 0.0, "decay": 1.0},
    "Adam with decay": {"use_rms_prop": False, "decay": 3.0},
    "linear choices": {"action": "discrete", "pi": [], "vf": []},
    "choices": {"action": "discrete", "ent_coef": 0.01, "relu": True},
    "assets": {"assets": 3, "max_grad_norm": 0.05, "rms_prop_eps": 1e-3},
}


def _both(**settings: Any) -> tuple[CompiledA2C, A2C]:
    world = {key: settings.pop(key) for key in ("action", "assets") if key in settings}
    models = [
        make_model(cls, make_vec_env(**world), **{"n_steps": 5} | settings) for cls in (CompiledA2C, A2C)
    ]
    assert furthest(*models) == 0.0
    return models[0], models[1]


def _update(ours: CompiledA2C, stock: A2C, rollouts: int) -> None:
    stock._setup_learn(10**6)
    for number in range(rollouts):
        collect(ours)
        hand_over(ours, stock)
        for model in (ours, stock):
            np.random.seed(number)  # noqa: NPY002 (SB3 draws from the global generator)
            model.train()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_weights_stay_together_for_300_updates(name: str) -> None:
    ours, stock = _both(**SETTINGS[name])
    _update(ours, stock, 300)
    assert ours._flat.steps() == 300
    assert furthest(ours, stock) < 1e-5


def test_the_log_has_the_same_keys_and_values() -> None:
    ours, stock = _both(ent_coef=0.01)
    _update(ours, stock, 1)
    mine, theirs = (
        {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")}
        for model in (ours, stock)
    )
    assert list(mine) == list(theirs)
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
