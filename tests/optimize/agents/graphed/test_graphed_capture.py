"""A step, once captured, goes on updating as SB3 does: what it holds fast is not what changes."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.utils import LinearSchedule

from optimize.agents.graphed import a2c, off_policy, ppo, step
from optimize.agents.graphed.a2c import GraphedA2C
from optimize.agents.graphed.dqn import GraphedDQN
from optimize.agents.graphed.ppo import GraphedPPO
from optimize.agents.graphed.sac import GraphedSAC
from optimize.agents.graphed.step import WARM_UP, Part, Step
from optimize.agents.graphed.td3 import GraphedTD3
from tests.optimize.agents.compiled.off_policy_support import train_both
from tests.optimize.agents.compiled.support import furthest
from tests.optimize.agents.graphed.support import off_policy_pair, on_policy_pair, same_log, train_rollouts
from tests.optimize.agents.graphed.tape import record_parts

FALLING = LinearSchedule(0.003, 0.0001, 1.0)
CPU = torch.device("cpu")


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let steps be captured on a CPU as on a GPU; return the number of parts of each capture so far."""
    made: list[int] = []

    def capture(parts: Sequence[Part], device: torch.device) -> list[Part]:
        made.append(len(parts))
        return record_parts(parts, device)

    def make_step(parts: Sequence[Part], device: torch.device, *, graph: bool) -> Step:
        return Step(parts, device, graph=True)

    monkeypatch.setattr(step, "capture", capture)
    for module in (ppo, a2c, off_policy):
        monkeypatch.setattr(module, "Step", make_step)
    return made


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"learning_rate": FALLING, "clip_range": LinearSchedule(0.2, 0.02, 1.0)}, [1]),
        ({"clip_range_vf": LinearSchedule(0.2, 0.02, 1.0), "batch_size": 24}, [1, 1]),
        ({"target_kl": 0.003, "batch_size": 8, "action": "discrete"}, [2]),
    ],
)
def test_captured_ppo_updates_as_sb3(settings: dict[str, Any], parts: list[int], captures: list[int]) -> None:
    sizes = {"n_steps": 16, "batch_size": 16, "n_epochs": 5}
    ours, theirs = on_policy_pair(GraphedPPO, PPO, **sizes | settings)
    train_rollouts(ours, theirs, 4)
    assert captures == parts
    assert furthest(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ("graphed", "stock", "settings", "parts"),
    [
        (GraphedSAC, SAC, {"learning_rate": FALLING, "target_update_interval": 2}, [1, 1]),
        (GraphedTD3, TD3, {"learning_rate": FALLING}, [1, 1]),
        (GraphedDQN, DQN, {"learning_rate": FALLING, "action": "discrete"}, [1]),
    ],
)
def test_captured_off_policy_updates_as_sb3(
    graphed: type[Any], stock: type[Any], settings: dict[str, Any], parts: list[int], captures: list[int]
) -> None:
    ours, theirs = off_policy_pair(graphed, stock, **settings)
    train_both(ours, theirs, updates=10, times=4)
    same_log(ours, theirs)
    assert captures == parts
    assert furthest(ours, theirs) < 1e-5


def test_captured_a2c_updates_as_sb3(captures: list[int]) -> None:
    ours, theirs = on_policy_pair(GraphedA2C, A2C, n_steps=4, use_rms_prop=False, learning_rate=FALLING)
    train_rollouts(ours, theirs, 12)
    assert captures == [1]
    assert furthest(ours, theirs) < 1e-5


def test_a_number_changed_between_two_trainings_counts(captures: list[int]) -> None:
    ours, theirs = on_policy_pair(GraphedPPO, PPO, n_steps=16, batch_size=16, n_epochs=2)
    for ent_coef in (0.0, 0.3):
        ours.ent_coef = theirs.ent_coef = ent_coef
        train_rollouts(ours, theirs, 1)
    assert captures == [1, 1]
    assert furthest(ours, theirs) < 1e-5


def test_both_parts_are_captured_together_and_after_whole_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(step, "capture", lambda parts, device: [lambda: done.append("again")] * len(parts))
    both = Step([lambda: done.append("first"), lambda: done.append("second")], CPU, graph=True)
    for _ in range(2 * WARM_UP):
        both.run()  # a step that stopped early
    assert done == ["first"] * 2 * WARM_UP
    done.clear()
    for _ in range(WARM_UP + 1):
        both.run()
        both.run(1)
    assert done == ["first", "second"] * WARM_UP + ["again", "again"]


def test_a_capture_that_asks_for_a_value_fails() -> None:
    value = torch.ones(1)

    def ask() -> None:
        value.mul_(value.item())

    with pytest.raises(RuntimeError, match="a value of a tensor was asked for"):
        record_parts([ask], CPU)
