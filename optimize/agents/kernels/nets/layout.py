"""Layout of SB3's networks in flat vectors, and refusal of networks that have no kernels."""

from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import cast

import numpy as np
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from optimize.agents.kernels.nets.actor_critic import Network
from optimize.agents.kernels.nets.layers import Branch, Stem
from optimize.agents.kernels.nets.parameters import FlatParameters
from optimize.agents.kernels.nets.perceptrons import Perceptrons
from optimize.agents.optimizers import DECAYED, DecayedAdam, DecayedRMSprop
from optimize.errors import BadInputError

MAX_HIDDEN_LAYERS = 3  # hidden layers that are compiled and tested; without any a network is linear
_PLAIN: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {  # options that must be off
    torch.optim.Adam: ("weight_decay", "amsgrad", "maximize"),
    DecayedAdam: ("amsgrad", "maximize"),
    torch.optim.RMSprop: ("weight_decay", "momentum", "centered", "maximize"),
    DecayedRMSprop: ("weight_decay", "momentum", "centered", "maximize"),
}
_ADAMS = (torch.optim.Adam, DecayedAdam)


def actor_critic_obstacle(policy: ActorCriticPolicy) -> str | None:
    """Return the property of a policy that the kernels do not support, or None."""
    if not isinstance(policy.features_extractor, FlattenExtractor):
        return f"a features extractor ({type(policy.features_extractor).__name__})"
    if policy.activation_fn not in (nn.Tanh, nn.ReLU):
        return f"the activation {policy.activation_fn.__name__}"
    if not isinstance(policy.action_dist, (DiagGaussianDistribution, CategoricalDistribution)):
        return f"the action distribution {type(policy.action_dist).__name__}"
    depths = {len(_linear(net)) for net in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)}
    if depths != {0} and not all(1 <= depth <= MAX_HIDDEN_LAYERS for depth in depths):
        return f"{' and '.join(map(str, sorted(depths)))} hidden layers, not 1 to {MAX_HIDDEN_LAYERS}"
    if policy.device.type != "cpu":
        return f"on the device {policy.device}"
    return optimizer_obstacle(policy.optimizer, _PLAIN)


def optimizer_obstacle(
    optimizer: torch.optim.Optimizer, known: Collection[type[torch.optim.Optimizer]]
) -> str | None:
    """Return the property of an optimizer that the kernels do not support, or None."""
    changes = _PLAIN[type(optimizer)] if type(optimizer) in known else None
    if changes is None or len(optimizer.param_groups) > 1 + (type(optimizer) in DECAYED):
        return f"with the optimizer {type(optimizer).__name__}"
    changed = [key for key in changes if optimizer.param_groups[0].get(key)]
    return f"with {' and '.join(changed)} of {type(optimizer).__name__}" if changed else None


def lay_out_actor_critic(policy: ActorCriticPolicy) -> tuple[Network, FlatParameters]:
    """Return the layout of a policy and its flat parameters; raise BadInputError if it is not a plain MLP.

    The first matrices of both networks lie next to each other, so that one product computes both.
    """
    if reason := actor_critic_obstacle(policy):
        raise BadInputError(f"agent.engine='compiled' cannot train {reason}: set agent.engine=stock")
    heads = cast(nn.Linear, policy.action_net), policy.value_net
    actor = [*_linear(policy.mlp_extractor.policy_net), heads[0]]
    critic = [*_linear(policy.mlp_extractor.value_net), heads[1]]
    order = [actor[0].weight, critic[0].weight, actor[0].bias, critic[0].bias]
    for layer in (*actor[1:], *critic[1:]):
        order += [layer.weight, layer.bias]
    discrete = isinstance(policy.action_dist, CategoricalDistribution)
    if not discrete:
        order.append(policy.log_std)
    flat = FlatParameters(order, policy.optimizer)
    later = flat.start[4:]
    depth = len(actor) - 1
    units = actor[0].out_features + critic[0].out_features
    stem = Stem(actor[0].in_features, units, 0, flat.start[2], policy.activation_fn is nn.Tanh, depth == 0)
    network = Network(
        stem=stem,
        actor=_branch(0, actor, later[: 2 * depth]),
        critic=_branch(actor[0].out_features, critic, later[2 * depth :]),
        log_std=flat.start[-1] if discrete else flat.start[-2],
        discrete=discrete,
    )
    return network, flat


def _linear(net: nn.Module) -> list[nn.Linear]:
    return [layer for layer in net.children() if isinstance(layer, nn.Linear)]


def _branch(first: int, layers: Sequence[nn.Linear], starts: Sequence[int]) -> Branch:
    units = np.array([layer.out_features for layer in layers], dtype=np.int64)
    count = len(layers) - 1
    weight, bias = (np.array(starts[part : 2 * count : 2], dtype=np.int64) for part in (0, 1))
    place = np.concatenate([[0], np.cumsum(units[1:-1])]).astype(np.int64)
    return Branch(first, units, weight, bias, place)


LinearGroup = tuple[nn.Linear, ...]  # linear layers with the same input, as one


def linear_layers(net: Iterable[nn.Module]) -> list[LinearGroup]:
    """Return the linear layers of a sequence of modules."""
    return [(layer,) for layer in net if isinstance(layer, nn.Linear)]


def critic_layers(critic: ContinuousCritic) -> list[list[LinearGroup]]:
    """Return the layers of each critic."""
    return [linear_layers(net.children()) for net in critic.q_networks]


def lay_out_perceptrons(
    nets: Sequence[Sequence[LinearGroup]], tanh: bool
) -> tuple[Perceptrons, list[torch.Tensor]]:
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
    stem = Stem(inputs, sum(units), 0, sum(units) * inputs, tanh, linear=len(nets[0]) == 1)
    return Perceptrons(stem, tuple(branches)), order


def first_perceptron(nets: Perceptrons) -> Perceptrons:
    """Return the layout of the first of these perceptrons alone."""
    return Perceptrons(nets.stem._replace(units=int(nets.branches[0].units[0])), nets.branches[:1])


def require_plain_networks(
    model: OffPolicyAlgorithm,
    nets: Sequence[Sequence[LinearGroup]],
    optimizers: Iterable[torch.optim.Optimizer],
) -> bool:
    """Raise BadInputError if the kernels cannot train a model; return whether its activation is tanh."""
    if reason := off_policy_obstacle(model, nets, optimizers):
        raise BadInputError(f"agent.engine='compiled' cannot train {reason}: set agent.engine=stock")
    return bool(model.policy.activation_fn is nn.Tanh)


def off_policy_obstacle(
    model: OffPolicyAlgorithm,
    nets: Sequence[Sequence[LinearGroup]],
    optimizers: Iterable[torch.optim.Optimizer],
) -> str | None:
    """Return the property of a model that the kernels do not support, or None."""
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
    if not all(depth <= MAX_HIDDEN_LAYERS for depth in depths):
        return f"{' and '.join(map(str, sorted(depths)))} hidden layers, not 0 to {MAX_HIDDEN_LAYERS}"
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
    reasons = (optimizer_obstacle(optimizer, _ADAMS) for optimizer in optimizers)
    return next((reason for reason in reasons if reason), None)


def _parameters(layers: Iterable[nn.Linear]) -> list[torch.Tensor]:
    every = list(layers)
    return [linear.weight for linear in every] + [linear.bias for linear in every]


def _units(layer: LinearGroup) -> int:
    return sum(linear.out_features for linear in layer)
