"""A compiled model is an SB3 model: saved, loaded by plain SB3, trained on by either."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback

from optimize.agents.agent import load_agent, load_sb3
from optimize.agents.kernels.on_policy.a2c import CompiledA2C
from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from tests.optimize.agents.kernels.support import (
    collect,
    furthest,
    hand_over,
    make_model,
    make_vec_env,
)
from tests.optimize.agents.support import probe_observations, small_spec, train_small

PAIRS: list[tuple[Any, Any, dict[str, Any]]] = [
    (CompiledPPO, PPO, {"n_epochs": 3, "batch_size": 64}),
    (CompiledA2C, A2C, {"n_steps": 8}),
]


def _through_file(model: Any, cls: Any, **keys: Any) -> Any:
    stream = io.BytesIO()
    model.save(stream)
    stream.seek(0)
    return cls.load(stream, device="cpu", **keys)


@pytest.mark.parametrize(("compiled", "stock", "settings"), PAIRS)
def test_plain_sb3_loads_it_with_its_optimizer_and_goes_on(compiled: Any, stock: Any, settings: Any) -> None:
    model = make_model(compiled, make_vec_env(), **settings)
    model.learn(1024)
    plain = _through_file(model, stock, env=make_vec_env())
    assert type(plain) is stock
    assert furthest(model, plain) == 0.0
    for ours, theirs in zip(model.policy.parameters(), plain.policy.parameters(), strict=True):
        mine = model.policy.optimizer.state[ours]
        kept = plain.policy.optimizer.state[theirs]
        assert mine.keys() == kept.keys()
        assert all(torch.equal(mine[key], kept[key]) for key in mine)
        assert float(kept["step"]) == model._flat.steps() > 0
    # The next update of both is the same, and would not be if a moment had been lost.
    plain._setup_learn(10**6)
    collect(model)
    hand_over(model, plain)
    plain.set_logger(model.logger)
    for each in (model, plain):
        each._current_progress_remaining = 1.0
        np.random.seed(0)  # noqa: NPY002 (SB3 draws from the global generator)
        each.train()
    assert furthest(model, plain) < 1e-6
    plain.learn(512)


@pytest.mark.parametrize(("compiled", "stock", "settings"), PAIRS)
def test_it_continues_the_training_of_plain_sb3(compiled: Any, stock: Any, settings: Any) -> None:
    plain = make_model(stock, make_vec_env(), **settings)
    plain.learn(1024)
    model = _through_file(plain, compiled, env=make_vec_env())
    again = _through_file(plain, stock, env=make_vec_env())
    assert furthest(model, plain) == 0.0
    for each in (model, again):
        each.set_logger(plain.logger)
    again._setup_learn(10**6)
    collect(model)
    hand_over(model, again)
    for each in (model, again):
        each._current_progress_remaining = 1.0
        np.random.seed(0)  # noqa: NPY002 (SB3 draws from the global generator)
        each.train()
    assert furthest(model, again) < 1e-6
    assert furthest(model, plain) > 1e-4
    model.learn(512)


def test_a_trained_agent_is_saved_and_acts_the_same_in_every_form(tmp_path: Path) -> None:
    agent = train_small(small_spec("ppo", engine="compiled"))
    assert type(agent.model) is CompiledPPO
    assert agent.spec.engine == "compiled"
    assert agent.model._collector is None  # which would hold the market
    agent.save(tmp_path)
    loaded, plain = load_agent(tmp_path), load_sb3(tmp_path)
    assert type(plain) is PPO
    observation, start = probe_observations(agent), np.zeros(16, dtype=bool)
    expected = agent.act(observation, None, start)[0]
    np.testing.assert_array_equal(loaded.act(observation, None, start)[0], expected)
    np.testing.assert_array_equal(plain.predict(observation, deterministic=True)[0], expected)


class _Heard(BaseCallback):
    """Record the calls of a callback and stop the training at a step."""

    def __init__(self, stop_at: int, every_step: bool) -> None:
        super().__init__()
        self.every_step = every_step
        self.heard: list[tuple[str, int]] = []
        self._stop_at = stop_at

    def _on_rollout_start(self) -> None:
        self.heard.append(("start", self.model.num_timesteps))

    def _on_step(self) -> bool:
        self.heard.append(("step", self.num_timesteps))
        return self.num_timesteps < self._stop_at

    def _on_rollout_end(self) -> None:
        self.heard.append(("end", self.model.num_timesteps))


@pytest.mark.parametrize(("every_step", "steps"), [(True, range(4, 257, 4)), (False, (4, 256))])
def test_callbacks_hear_of_every_step_or_of_the_first_and_the_last_one_of_a_rollout(
    every_step: bool, steps: Sequence[int]
) -> None:
    model = make_model(CompiledPPO, make_vec_env(), n_epochs=1, batch_size=64)
    callback = _Heard(257, every_step)
    model.learn(1024, callback=callback)
    first = [("start", 0), *(("step", step) for step in steps), ("end", 256)]
    assert callback.heard == [*first, ("start", 256), ("step", 260)]
    assert model.num_timesteps == 260
    assert model._n_updates == 1
