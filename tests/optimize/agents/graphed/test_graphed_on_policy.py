"""The graphed step of PPO and A2C updates as SB3 does: here without a graph, as on a CPU."""

from typing import Any

import pytest
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.utils import LinearSchedule

from optimize.agents.graphed.a2c import GraphedA2C
from optimize.agents.graphed.ppo import GraphedPPO
from tests.optimize.agents.compiled.support import furthest
from tests.optimize.agents.graphed.support import on_policy_pair, train_rollouts


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    "settings",
    [
        {"action": "discrete", "relu": True, "ent_coef": 0.02},
        {"assets": 2, "clip_range_vf": 0.1, "max_grad_norm": 0.05, "vf_coef": 0.8},
        {
            "learning_rate": LinearSchedule(0.003, 0.0001, 1.0),
            "clip_range": LinearSchedule(0.2, 0.02, 1.0),
            "clip_range_vf": LinearSchedule(0.2, 0.02, 1.0),
        },
        {"batch_size": 24, "n_epochs": 6, "normalize_advantage": False, "pi": [16], "vf": [8, 8]},
        {"target_kl": 0.003, "batch_size": 8},
        {"batch_size": 1000, "n_epochs": 20, "n_steps": 8},
    ],
    ids=["discrete", "clipped", "schedules", "odd-batches", "target-kl", "one-batch"],
)
def test_a_hundred_updates_of_ppo_are_those_of_sb3(settings: dict[str, Any]) -> None:
    sizes = {"n_steps": 16, "batch_size": 16, "n_epochs": 5}
    ours, theirs = on_policy_pair(GraphedPPO, PPO, **sizes | settings)
    train_rollouts(ours, theirs, 6)
    assert ours._n_updates == theirs._n_updates
    steps = next(iter(ours.policy.optimizer.state.values()))["step"]
    assert steps >= 100
    if "target_kl" in settings:
        assert steps < 6 * 5 * 8, "nothing stopped early"
    assert furthest(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"ent_coef": 0.01},
        {"use_rms_prop": False, "normalize_advantage": True, "action": "discrete", "max_grad_norm": 0.05},
    ],
    ids=["rms-prop", "adam"],
)
def test_a_hundred_updates_of_a2c_are_those_of_sb3(settings: dict[str, Any]) -> None:
    ours, theirs = on_policy_pair(GraphedA2C, A2C, **{"n_steps": 4} | settings)
    train_rollouts(ours, theirs, 100)
    assert ours._n_updates == theirs._n_updates == 100
    assert furthest(ours, theirs) < 1e-5
