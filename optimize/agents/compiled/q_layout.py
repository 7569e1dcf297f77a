"""From the networks of an SB3 off-policy algorithm to the layout that the kernels read."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from optimize.agents.compiled.layers import Branch, Stem
from optimize.agents.compiled.network import DEEPEST, why_not_optimizer
from optimize.agents.compiled.perceptrons import Nets
from optimize.errors import BadInputError

Layer = tuple[nn.Linear, ...]  # those that read the same values, as one


def linear_layers(net: Iterable[nn.Module]) -> list[Layer]:
    """Return the linear layers of a sequence of modules."""
    return [(layer,) for layer in net if isinstance(layer, nn.Linear)]


def critic_layers(critic: ContinuousCritic) -> list[list[Layer]]:
    """Return the layers of each critic."""
    return [linear_layers(net.children()) for net in critic.q_networks]


def lay_out(nets: Sequence[Sequence[Layer]], tanh: bool) -> tuple[Nets, list[torch.Tensor]]:
    """Return the layout of perceptrons with the same input, and their parameters in its order.

    Their first matrices lie next to each other, so that one product computes them all; then their first
    vectors, then for each perceptron the matrix and the vector of every other layer.
    """
    first = [linear for net in nets for linear in net[0]]
    order = _parameters(first)
    start = sum(parameter.numel() for parameter in order)
    units = [_units(net[0]) for net in nets]
    inputs = first[0].in_features
    branches = []
    for net, place in zip(nets, accumulate(units, initial=0), strict=False):
        weight, bias = [], []
        for layer in net[1:]:
            parameters = _parameters(layer)
            weight.append(start)
            bias.append(start + _units(layer) * layer[0].in_features)
            start += sum(parameter.numel() for parameter in parameters)
            order += parameters
        widths = [_units(layer) for layer in net]
        places = [0, *accumulate(widths[1:-1])]
        arrays = (np.array(numbers, dtype=np.int64) for numbers in (widths, weight, bias, places))
        branches.append(Branch(place, *arrays))
    return Nets(Stem(inputs, sum(units), 0, sum(units) * inputs, tanh), tuple(branches)), order


def first_of(nets: Nets) -> Nets:
    """Return the layout of the first of these perceptrons alone."""
    return Nets(nets.stem._replace(units=int(nets.branches[0].units[0])), nets.branches[:1])


def refuse_unless_plain(
    model: OffPolicyAlgorithm, nets: Sequence[Sequence[Layer]], optimizers: Iterable[torch.optim.Optimizer]
) -> bool:
    """Raise BadInputError where the kernels cannot train a model; return whether its activation is tanh."""
    if reason := why_not(model, nets, optimizers):
        raise BadInputError(f"agent.engine='compiled' cannot train {reason}: set agent.engine=stock")
    return bool(model.policy.activation_fn is nn.Tanh)


def why_not(
    model: OffPolicyAlgorithm, nets: Sequence[Sequence[Layer]], optimizers: Iterable[torch.optim.Optimizer]
) -> str | None:
    """Return what keeps a model from being trained by the kernels, or None."""
    policy = model.policy
    assert isinstance(policy, BasePolicy)
    if policy.features_extractor_class is not FlattenExtractor:
        return f"a features extractor ({policy.features_extractor_class.__name__})"
    activation = cast(type[nn.Module], policy.activation_fn)
    if activation not in (nn.Tanh, nn.ReLU):
        return f"the activation {activation.__name__}"
    if len(nets) == 2 or len(nets) > 3:  # an actor and its critics; or one network alone
        return f"{len(nets) - 1} critics, not 2"
    depths = {len(net) - 1 for net in nets}
    if not all(1 <= depth <= DEEPEST for depth in depths):
        return f"{' and '.join(map(str, sorted(depths)))} hidden layers, not 1 to {DEEPEST}"
    if policy.device.type != "cpu":
        return f"on the device {policy.device}"
    if model.use_sde:
        return "with use_sde"
    if model.action_noise is not None:
        return f"with the action noise {type(model.action_noise).__name__}"
    if model.replay_buffer_class not in (ReplayBuffer, NStepReplayBuffer):
        return f"with the replay buffer {model.replay_buffer_class}"
    if changed := sorted(model.replay_buffer_kwargs.keys() - {"n_steps", "gamma"}):
        return f"with {', '.join(changed)} of the replay buffer"
    reasons = (why_not_optimizer(optimizer, (torch.optim.Adam,)) for optimizer in optimizers)
    return next((reason for reason in reasons if reason), None)


def _parameters(layers: Iterable[nn.Linear]) -> list[torch.Tensor]:
    every = list(layers)
    return [linear.weight for linear in every] + [linear.bias for linear in every]


def _units(layer: Layer) -> int:
    return sum(linear.out_features for linear in layer)
