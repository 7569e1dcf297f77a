"""Off-policy models of both engines, and steps of the one taken again by the other."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn

from optimize.agents.kernels.off_policy.replay import CONTINUED, TRUNCATED
from optimize.agents.optimizers import decay_arguments
from optimize.agents.sb3.vecenv import SB3VecEnv
from tests.optimize.agents.kernels.support import furthest, make_vec_env


def make_off_policy(cls: type[Any], vec_env: SB3VecEnv | None = None, **settings: Any) -> Any:
    """Return a small model without a log; net and relu shape its networks, decay is that of weights."""
    net = settings.pop("net", [16, 12])
    activation = nn.ReLU if settings.pop("relu", True) else nn.Tanh
    decay = decay_arguments(settings.pop("decay", 0.0), {}, on_policy=False)
    model = cls(
        "MlpPolicy",
        vec_env or make_vec_env(num_envs=2),
        device="cpu",
        seed=3,
        policy_kwargs={"net_arch": net, "activation_fn": activation} | decay,
        **{"buffer_size": 2000, "batch_size": 32, "learning_starts": 50, "learning_rate": 0.003} | settings,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def gather_steps(model: Any, steps: int) -> None:
    """Take so many steps of all environments and no update."""
    starts, model.learning_starts = model.learning_starts, 10**9
    model.learn(steps * model.n_envs, reset_num_timesteps=model.num_timesteps == 0)
    model.learning_starts = starts


def stored_actions(model: Any) -> NDArray[np.float32]:
    """Return the actions in the replay of a compiled model, oldest first, (C, N, A)."""
    replay = model._collector.replay
    place, filled = replay.place
    order = (np.arange(filled) + place - filled) % len(replay.bar)
    actions: NDArray[np.float32] = replay.action[order]
    return actions


def repeat_steps(model: Any, stock: OffPolicyAlgorithm, steps: int) -> None:
    """Let a stock model of the same seed take the steps of a compiled one again, by SB3's own code."""
    feed_actions(stock, iter(stored_actions(model)))
    gather_steps(stock, steps)
    del stock._sample_action


def feed_actions(stock: OffPolicyAlgorithm, taken: Iterator[NDArray[np.float32]]) -> None:
    """Let a stock model take these actions (N, A), one for each step, in place of its own."""
    space: Any = stock.action_space

    def sample_action(*_: Any, **__: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        action = next(taken)
        if not hasattr(space, "low"):
            return action[:, 0].astype(np.int64), action[:, 0].astype(np.int64)
        wide = action.astype(np.float64)
        return space.low + 0.5 * (wide + 1.0) * (space.high - space.low), action

    stock._sample_action = sample_action  # type: ignore[method-assign]


def same_steps(compiled: type[Any], stock: type[Any], **settings: Any) -> tuple[Any, Any]:
    """Return a model of each engine with the same weights, after the same steps."""
    env = {key: settings.pop(key) for key in ("assets", "long_only", "action") if key in settings}
    models = [make_off_policy(cls, make_vec_env(num_envs=2, **env), **settings) for cls in (compiled, stock)]
    assert furthest(*models) == 0.0
    gather_steps(models[0], 120)
    hand_over_replay(*models)
    return models[0], models[1]


def train_both(ours: Any, stock: Any, updates: int, times: int) -> None:
    """Let both train on their replays with the same random numbers."""
    for number in range(times):
        for model in (ours, stock):
            model._current_progress_remaining = 1.0 - number / times
            np.random.seed(number)  # noqa: NPY002 (SB3 draws from the global generator)
            torch.manual_seed(number)
            model.train(gradient_steps=updates, batch_size=model.batch_size)


def check_together(ours: Any, stock: Any) -> None:
    """Check that 300 updates of both move the weights, targets too, to the same place, and log the same."""
    before = [parameter.detach().clone() for parameter in ours.policy.parameters()]
    train_both(ours, stock, updates=10, times=30)
    assert ours._n_updates == stock._n_updates == 300
    pairs = zip(before, ours.policy.parameters(), strict=True)
    assert max(float((left - right).detach().abs().max()) for left, right in pairs) > 0.01
    assert furthest(ours, stock) < 1e-5
    logged, expected = train_log(ours), train_log(stock)
    assert logged.keys() == expected.keys()
    for key, value in expected.items():
        assert logged[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key


def train_log(model: Any) -> dict[str, float]:
    """Return the values logged by the last training."""
    return {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")}


def adam_states(model: Any) -> list[dict[str, Any]]:
    """Return the state that the optimizers of a model keep of each parameter."""
    found = []
    for name in model._get_torch_save_params()[0]:
        if name.endswith("optimizer"):
            optimizer = attrgetter(name)(model)
            found += [optimizer.state[each] for group in optimizer.param_groups for each in group["params"]]
    return found


def hand_over_replay(model: Any, stock: OffPolicyAlgorithm) -> None:
    """Put the replay of a compiled model into the buffer of a stock one."""
    collector, buffer = model._collector, stock.replay_buffer
    assert buffer is not None
    replay, env = collector.replay, collector.env_state
    window, flat = env.layout.weight, env.features.reshape(-1)

    def observed(bars: NDArray[np.int32], account: NDArray[np.float32]) -> NDArray[np.float32]:
        stops = (bars.ravel() + 1) * env.features.shape[1]
        windows = np.stack([flat[max(stop - window, 0) : stop] for stop in np.maximum(stops, window)])
        return np.concatenate([windows.reshape(*bars.shape, window), account], axis=2)

    buffer.observations = observed(replay.bar, replay.account)
    buffer.next_observations = observed(replay.bar + 1, replay.following)
    buffer.actions = replay.action.astype(buffer.actions.dtype)
    buffer.rewards = replay.reward.copy()
    buffer.dones = (replay.ended != CONTINUED).astype(np.float32)
    buffer.timeouts = (replay.ended == TRUNCATED).astype(np.float32)
    buffer.pos, buffer.full = int(replay.place[0]), int(replay.place[1]) == len(replay.bar)
