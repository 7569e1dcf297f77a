"""The loop around steps and updates: how often, from which random numbers, saved and gone on with."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from optimize.agents.kernels.off_policy import training as off_policy
from optimize.agents.kernels.off_policy.dqn import CompiledDQN
from optimize.agents.kernels.off_policy.sac import CompiledSAC
from optimize.agents.kernels.off_policy.td3 import CompiledTD3
from optimize.errors import BadInputError, NumericError
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.off_policy_support import (
    adam_states,
    gather_steps,
    hand_over_replay,
    make_off_policy,
    train_both,
)
from tests.optimize.agents.kernels.support import furthest, make_vec_env

pytestmark = pytest.mark.slow

PAIRS: list[tuple[Any, Any]] = [(CompiledSAC, SAC), (CompiledTD3, TD3), (CompiledDQN, DQN)]
LAYERS = st.lists(st.integers(1, 30), max_size=3)
FREQUENCIES: list[dict[str, Any]] = [
    {},
    {"train_freq": 3, "gradient_steps": 2},
    {"train_freq": (5, "step"), "gradient_steps": -1, "learning_starts": 0},
    {"train_freq": (2, "episode"), "gradient_steps": -1, "num_envs": 1},
    {"gradient_steps": 0},
]


def _env(compiled: Any, **keys: Any) -> Any:
    return make_vec_env(
        **{"num_envs": 2, "action": "discrete" if compiled is CompiledDQN else "continuous"} | keys
    )


def _make(compiled: Any, cls: Any, **keys: Any) -> Any:
    world = {key: keys.pop(key) for key in ("num_envs", "assets", "market", "lookback") if key in keys}
    return make_off_policy(cls, _env(compiled, **world), **keys)


@settings(max_examples=15, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    layers=st.tuples(LAYERS, LAYERS),
    relu=st.booleans(),
    assets=st.integers(1, 3),
    lookback=st.integers(1, 4),
    features=st.integers(1, 7),
    batch=st.integers(1, 70),
    n_steps=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_those_of_autograd(
    pair: tuple[Any, Any],
    layers: tuple[list[int], list[int]],
    relu: bool,
    assets: int,
    lookback: int,
    features: int,
    batch: int,
    n_steps: int,
    seed: int,
) -> None:
    """After one update from rest Adam's mean is a tenth of the gradient, of SB3 by autograd."""
    discrete = pair[0] is CompiledDQN
    market = make_market(
        random_walk(60, assets=1 if discrete else assets, volatility=0.02), features=features
    )
    net: Any = layers[0] if discrete else {"pi": layers[0], "qf": layers[1]}
    extra: dict[str, Any] = (
        {"policy_delay": 1} if pair[0] is CompiledTD3 else {"max_grad_norm": 1e9} if discrete else {}
    )
    models = [
        _make(
            pair[0],
            cls,
            market=market,
            lookback=lookback,
            net=net,
            relu=relu,
            batch_size=batch,
            n_steps=n_steps,
            **extra,
        )
        for cls in pair
    ]
    torch.manual_seed(seed)
    noise = [0.3 * torch.randn_like(parameter) for parameter in models[0].policy.parameters()]
    for model in models:  # so that target networks differ from trained ones
        with torch.no_grad():
            for parameter, shift in zip(model.policy.parameters(), noise, strict=True):
                parameter += shift
    gather_steps(models[0], 30)
    hand_over_replay(*models)
    train_both(models[0], models[1], updates=1, times=1)
    room = _least_room(models[0], batch)
    assume(room > 3e-3)  # nearer to the bound float32 itself knows the gradient to a few digits only
    for ours, theirs in zip(adam_states(models[0]), adam_states(models[1]), strict=True):
        expected = 10.0 * theirs["exp_avg"].numpy()
        scale = max(1.0, float(np.abs(expected).max()))
        atol = (2e-5 + 1e-6 / room) * scale
        np.testing.assert_allclose(10.0 * ours["exp_avg"].numpy(), expected, atol=atol)


def _least_room(model: Any, batch: int) -> float:
    """Return the least 1 - a^2 of SAC's actions: float32 knows it, and so log p, only to 1e-7 / that."""
    if not isinstance(model, CompiledSAC):
        return 1.0
    assert model._room is not None
    drawn = np.concatenate([model._room[1].action[:batch], model._room[1].next_action[:batch]])
    return max(1e-6, float((1.0 - drawn.astype(np.float64) ** 2).min()))


@pytest.mark.parametrize(("compiled", "stock"), PAIRS)
@pytest.mark.parametrize("keys", FREQUENCIES, ids=str)
def test_there_are_as_many_steps_and_updates_as_in_sb3(
    compiled: Any, stock: Any, keys: dict[str, Any]
) -> None:
    models = [_make(compiled, cls, **keys) for cls in (compiled, stock)]
    for model in models:
        model.learn(301)
    ours, theirs = models
    assert (ours.num_timesteps, ours._n_updates, ours._episode_num) == (
        theirs.num_timesteps,
        theirs._n_updates,
        theirs._episode_num,
    )
    assert [state["step"] for state in adam_states(ours)] == [
        state.get("step", 0) for state in adam_states(theirs)
    ]
    assert ours._current_progress_remaining == theirs._current_progress_remaining
    assert ours.logger.name_to_value.keys() == theirs.logger.name_to_value.keys()
    if compiled is CompiledDQN:
        assert ours.exploration_rate == theirs.exploration_rate
        assert ours._n_calls == theirs._n_calls


@pytest.mark.parametrize(("compiled", "stock"), PAIRS)
@pytest.mark.parametrize(
    "keys",
    [{}, {"train_freq": 3, "gradient_steps": 2, "learning_rate": lambda left: 0.005 * left}],
    ids=["1", "3"],
)
def test_updates_in_the_loop_are_those_of_train(
    compiled: Any, stock: Any, keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, each, alone = (_make(compiled, compiled, **keys) for _ in range(3))
    assert _heard(together, 3) < 100
    assert _heard(each, 3, every_step=True) == each.num_timesteps // each.n_envs
    monkeypatch.setattr(off_policy, "MAX_DRAWN_UPDATES", 1)
    assert _heard(alone, 3) >= 100
    assert furthest(together, alone) == furthest(together, each) == 0.0
    assert together._n_updates == alone._n_updates > 60
    other = _make(compiled, compiled, **keys)
    _heard(other, 4)
    assert furthest(alone, other) > 0.0


class _Count(BaseCallback):
    """Note the steps at which a callback is called: every one, or one or two of each go."""

    def __init__(self, every_step: bool) -> None:
        super().__init__()
        self.every_step = every_step
        self.heard: list[int] = []

    def _on_step(self) -> bool:
        self.heard.append(self.num_timesteps)
        return True


def _heard(model: Any, seed: int, every_step: bool = False) -> int:
    """Train for 600 steps from a seed and return how often a callback heard of them."""
    model.set_random_seed(seed)
    callback = _Count(every_step)
    model.learn(600, callback=callback)
    assert callback.heard[-1] == model.num_timesteps >= 600
    return len(callback.heard)


def _through_file(model: Any, cls: Any, **keys: Any) -> Any:
    stream = io.BytesIO()
    model.save(stream)
    stream.seek(0)
    loaded = cls.load(stream, device="cpu", **keys)
    loaded.set_logger(model.logger)
    return loaded


@pytest.mark.filterwarnings("ignore:`n_steps=3` is ignored")  # SB3 warns of each such file, though it is not
@pytest.mark.parametrize(("compiled", "stock"), PAIRS)
@pytest.mark.parametrize("n_steps", [1, 3])
def test_plain_sb3_loads_it_with_its_optimizers_and_goes_on(compiled: Any, stock: Any, n_steps: int) -> None:
    model = _make(compiled, compiled, n_steps=n_steps)
    model.learn(400)
    plain = _through_file(model, stock, env=_env(compiled))
    assert type(plain) is stock
    assert furthest(model, plain) == 0.0
    for ours, theirs in zip(adam_states(model), adam_states(plain), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert float(ours["step"]) > 40
    hand_over_replay(model, plain)
    train_both(model, plain, updates=5, times=1)
    assert furthest(model, plain) < 1e-6
    plain.learn(200)
    assert plain.replay_buffer.buffer_size == 1000


@pytest.mark.parametrize(("compiled", "stock"), PAIRS)
def test_it_continues_the_training_of_plain_sb3(compiled: Any, stock: Any) -> None:
    plain = _make(compiled, stock)
    plain.learn(300)
    model, again = (_through_file(plain, cls, env=_env(compiled)) for cls in (compiled, stock))
    assert furthest(model, plain) == 0.0
    gather_steps(model, 60)
    hand_over_replay(model, again)
    train_both(model, again, updates=5, times=1)
    assert furthest(model, again) < 1e-6
    assert furthest(model, plain) > 1e-4
    assert [float(state["step"]) for state in adam_states(model)] == [
        float(state["step"]) for state in adam_states(again)
    ]


@pytest.mark.parametrize(("compiled", "stock"), PAIRS)
def test_a_network_that_is_not_a_number_is_a_numeric_error(compiled: Any, stock: Any) -> None:
    model = (
        _make(compiled, compiled, learning_starts=10, exploration_fraction=0.01)
        if compiled is CompiledDQN
        else _make(compiled, compiled, learning_starts=10)
    )
    net = model.q_net.q_net if compiled is CompiledDQN else model.actor.mu
    last = net if isinstance(net, nn.Linear) else [layer for layer in net if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[-1] = float("nan")
    with pytest.raises(NumericError, match=r"the action of the policy in env row \d is NaN or infinite"):
        model.learn(400)


def test_models_without_kernels_are_refused() -> None:
    noise = NormalActionNoise(np.zeros(1), np.ones(1))
    for keys, reason in (
        ({"net": [8, 8, 8, 8]}, "4 hidden layers, not 0 to 3"),
        ({"action_noise": noise}, "with the action noise NormalActionNoise"),
        (
            {"replay_buffer_kwargs": {"handle_timeout_termination": False}},
            "with handle_timeout_termination of",
        ),
        ({"use_sde": True}, "with use_sde"),
    ):
        with pytest.raises(BadInputError, match=rf"cannot train {reason}.*agent\.engine=stock"):
            _make(CompiledSAC, CompiledSAC, **keys)
    with pytest.raises(BadInputError, match="cannot train 3 critics, not 2"):
        CompiledSAC("MlpPolicy", _env(CompiledSAC), device="cpu", policy_kwargs={"n_critics": 3})
    model = _make(CompiledSAC, CompiledSAC)
    model.set_env(VecNormalize(_env(CompiledSAC)))
    with pytest.raises(BadInputError, match=r"trains in an SB3VecEnv, not in a VecNormalize"):
        model.learn(10)
