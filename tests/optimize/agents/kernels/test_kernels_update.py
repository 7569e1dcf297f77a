"""The same rollout and permutations through SB3's train() and through ours."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule

from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from tests.optimize.agents.kernels.support import (
    collect,
    furthest,
    hand_over,
    make_model,
    make_vec_env,
    observations,
)
from tests.tiers import mostly_slow

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "three layers, ReLU": {"pi": [24, 16, 8], "vf": [8, 16], "relu": True},
    "one layer": {"pi": [12], "vf": [30]},
    "uneven batches": {"batch_size": 100},
    "value clipping": {"clip_range_vf": 0.05, "vf_coef": 1.0},
    "entropy": {"ent_coef": 0.05, "max_grad_norm": 0.1},
    "raw advantages": {"normalize_advantage": False},
    "linear, one step ahead": {"pi": [], "vf": [], "gamma": 0.0},
    "decay": {"decay": 1.0},
    "schedules": {
        "learning_rate": LinearSchedule(0.003, 0.0, 1.0),
        "clip_range": LinearSchedule(0.3, 0.1, 1.0),
    },
}


def _both(action: str = "continuous", assets: int = 1, **settings: Any) -> tuple[CompiledPPO, PPO]:
    """Return two models with the same weights."""
    base = {"batch_size": 32, "n_epochs": 10}
    models = [
        make_model(cls, make_vec_env(action=action, assets=assets), **base | settings)
        for cls in (CompiledPPO, PPO)
    ]
    assert furthest(*models) == 0.0
    return models[0], models[1]


def _update(ours: CompiledPPO, stock: PPO, rollouts: int) -> None:
    for number in range(rollouts):
        collect(ours)
        hand_over(ours, stock)
        stock.num_timesteps = ours.num_timesteps
        for model in (ours, stock):
            model._update_current_progress_remaining(model.num_timesteps, 2048)
            np.random.seed(number)  # noqa: NPY002 (SB3 draws from the global generator)
            model.train()


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size of 100")
@pytest.mark.parametrize(
    "name", mostly_slow(SETTINGS, "default", "uneven batches", "linear, one step ahead", "decay")
)
def test_weights_stay_together_for_300_updates(name: str) -> None:
    ours, stock = _both(**SETTINGS[name])
    stock._setup_learn(10**6)
    _update(ours, stock, 4)
    batches = -(-256 // stock.batch_size)
    assert ours._flat.steps() == 4 * 10 * batches >= 100
    if batches == 8:
        assert ours._flat.steps() == 320
    assert furthest(ours, stock) < 1e-5


@pytest.mark.parametrize(
    ("action", "assets"), mostly_slow([("discrete", 1), ("continuous", 3)], ("discrete", 1))
)
def test_so_they_do_with_choices_and_with_many_assets(action: str, assets: int) -> None:
    ours, stock = _both(action, assets, ent_coef=0.01)
    stock._setup_learn(10**6)
    _update(ours, stock, 4)
    assert furthest(ours, stock) < 1e-5


def test_the_log_has_the_same_keys_and_values() -> None:
    ours, stock = _both(clip_range_vf=0.2, ent_coef=0.01)
    stock._setup_learn(10**6)
    _update(ours, stock, 1)
    mine, theirs = (
        {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")}
        for model in (ours, stock)
    )
    assert list(mine) == list(theirs)
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def test_too_large_a_divergence_stops_at_the_same_batch() -> None:
    ours, stock = _both(target_kl=0.002, learning_rate=0.01)
    stock._setup_learn(10**6)
    _update(ours, stock, 2)
    assert 0 < ours._flat.steps() < 2 * 80
    assert ours._n_updates == stock._n_updates < 20
    taken = next(iter(stock.policy.optimizer.state.values()))["step"]
    assert ours._flat.steps() == taken
    assert furthest(ours, stock) < 1e-5
    assert ours.logger.name_to_value["train/approx_kl"] == pytest.approx(
        stock.logger.name_to_value["train/approx_kl"], rel=1e-3
    )


def test_values_and_log_probabilities_are_those_of_the_policy() -> None:
    for action, assets in (("continuous", 2), ("discrete", 1)):
        model = make_model(CompiledPPO, make_vec_env(action=action, assets=assets))
        collect(model)
        samples = model._collector.samples
        actions = torch.from_numpy(samples.action)
        if action == "discrete":
            actions = actions.long().flatten()
        with torch.no_grad():
            value, log_prob, _ = model.policy.evaluate_actions(torch.from_numpy(observations(model)), actions)
        np.testing.assert_allclose(samples.value, value.flatten(), atol=1e-5)
        np.testing.assert_allclose(samples.log_prob, log_prob, atol=1e-5)
