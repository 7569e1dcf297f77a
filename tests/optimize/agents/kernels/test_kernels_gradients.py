"""The kernels' gradient is autograd's, for networks of any shape."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from optimize.agents.kernels.nets.actor_critic import Samples, make_workspace
from optimize.agents.kernels.nets.layers import rational_tanh
from optimize.agents.kernels.nets.layout import lay_out_actor_critic
from optimize.agents.kernels.nets.optimizers import NO_DECAY, Adam
from optimize.agents.kernels.on_policy.ppo import PpoSettings, run_epoch
from optimize.errors import BadInputError

LAYERS = st.lists(st.integers(1, 40), min_size=1, max_size=3)
N_BARS = 30


def _policy(action: spaces.Space[Any], size: int, relu: bool, pi: list[int], vf: list[int]) -> Any:
    return ActorCriticPolicy(
        spaces.Box(-np.inf, np.inf, (size,), np.float32),
        action,
        lambda _: 0.001,
        net_arch={"pi": pi, "vf": vf},
        activation_fn=nn.ReLU if relu else nn.Tanh,
        log_std_init=-0.3,
    )


def _torch_gradient(policy: Any, observation: Any, samples: Samples, objective: PpoSettings) -> list[Any]:
    """Return the gradient of the loss as SB3's PPO.train() writes it."""
    action = torch.from_numpy(samples.action)
    if isinstance(policy.action_space, spaces.Discrete):
        action = action.long().flatten()
    values, log_prob, entropy = policy.evaluate_actions(torch.from_numpy(observation), action)
    old, advantage, held, target = (
        torch.from_numpy(array)
        for array in (samples.log_prob, samples.advantage, samples.value, samples.target)
    )
    if objective.normalise and len(advantage) > 1:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = torch.exp(log_prob - old)
    cut = torch.clamp(ratio, 1 - objective.clip_range, 1 + objective.clip_range)
    policy_loss = -torch.min(advantage * ratio, advantage * cut).mean()
    moved = torch.clamp(values.flatten() - held, -objective.clip_range_vf, objective.clip_range_vf)
    value_loss = nn.functional.mse_loss(target, held + moved)
    loss = policy_loss - objective.ent_coef * entropy.mean() + objective.vf_coef * value_loss
    policy.zero_grad()
    loss.backward()
    return [None if parameter.grad is None else parameter.grad.numpy() for parameter in policy.parameters()]


@settings(max_examples=60, deadline=None)
@given(
    layers=st.tuples(LAYERS, LAYERS) | st.just(([], [])),  # a linear policy has a linear critic
    relu=st.booleans(),
    actions=st.integers(-4, 4).filter(lambda count: count not in (-1, 0)),  # below 0: choices
    batch=st.integers(1, 70),
    lookback=st.integers(1, 4),
    features=st.integers(1, 7),
    beside=st.integers(3, 9),
    clip_vf=st.sampled_from([math.inf, 0.5]),
    normalise=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_that_of_autograd(
    layers: tuple[list[int], list[int]],
    relu: bool,
    actions: int,
    batch: int,
    lookback: int,
    features: int,
    beside: int,
    clip_vf: float,
    normalise: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    discrete = actions < 0
    space = spaces.Discrete(-actions) if discrete else spaces.Box(-1.0, 1.0, (actions,), np.float32)
    policy = _policy(space, lookback * features + beside, relu, *layers)
    table = rng.normal(size=(N_BARS, features)).astype(np.float32)
    table.flags.writeable = False  # as that of the environments, so that one kernel serves both
    drawn = rng.normal(size=(6, batch)).astype(np.float32)
    samples = Samples(
        bar=rng.integers(lookback - 1, N_BARS, batch),
        account=rng.normal(size=(batch, beside)).astype(np.float32),
        action=rng.integers(0, -actions, (batch, 1)).astype(np.float32)
        if discrete
        else rng.normal(size=(batch, actions)).astype(np.float32),
        log_prob=drawn[0] - 1.0,
        value=drawn[1],
        advantage=drawn[2],
        target=drawn[3],
    )
    windows = [table[bar - lookback + 1 : bar + 1].ravel() for bar in samples.bar]
    observation = np.concatenate([windows, samples.account], axis=1)
    network, flat = lay_out_actor_critic(policy)
    objective = PpoSettings(0.2, clip_vf, 0.7, 0.02, math.inf, math.inf, normalise)
    expected = _torch_gradient(policy, observation, samples, objective)
    work = make_workspace(network, 70)
    parameters = flat.values()
    adam = Adam(flat.moment("exp_avg"), flat.moment("exp_avg_sq"), 0.0, 0.9, 0.999, 1e-5, NO_DECAY)
    losses = np.empty((1, 6))
    run_epoch(
        network,
        parameters,
        flat.gradient,
        adam,
        0,
        table,
        samples,
        np.arange(batch),
        work,
        objective,
        losses,
    )
    parts = np.split(flat.gradient, flat.start[1:-1])
    found = {id(parameter): part for parameter, part in zip(flat.parameters, parts, strict=True)}
    for (name, parameter), gradient in zip(policy.named_parameters(), expected, strict=True):
        scale = max(1.0, float(np.abs(gradient).max()))
        np.testing.assert_allclose(found[id(parameter)], gradient.ravel(), atol=2e-5 * scale, err_msg=name)


def test_tanh_is_within_3e_7() -> None:
    x = np.linspace(-12, 12, 200_001, dtype=np.float32)
    ours = np.array([rational_tanh(value) for value in x[::97]])
    assert np.abs(ours - np.tanh(x[::97].astype(np.float64))).max() < 3e-7


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"net_arch": [8, 8, 8, 8]}, "4 hidden layers, not 1 to 3"),
        ({"net_arch": {"pi": [], "vf": [8]}}, "0 and 1 hidden layers"),
        ({"activation_fn": nn.ELU}, "the activation ELU"),
        ({"use_sde": True}, "the action distribution StateDependentNoiseDistribution"),
    ],
)
def test_other_policies_are_refused(settings: dict[str, Any], reason: str) -> None:
    policy = ActorCriticPolicy(
        spaces.Box(-1, 1, (4,), np.float32), spaces.Box(-1, 1, (1,), np.float32), lambda _: 0.1, **settings
    )
    with pytest.raises(BadInputError, match=rf"cannot train {reason}.*agent\.engine=stock"):
        lay_out_actor_critic(policy)
