"""From an SB3 actor-critic policy to the layout that the kernels read."""

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
import torch
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from optimize.agents.compiled.actor_critic import Network
from optimize.agents.compiled.layers import Branch, Stem
from optimize.agents.compiled.parameters import FlatParameters
from optimize.errors import BadInputError

DEEPEST = 3  # hidden layers that are compiled and tested
_PLAIN: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {  # and what must not be switched on
    torch.optim.Adam: ("weight_decay", "amsgrad", "maximize"),
    torch.optim.RMSprop: ("weight_decay", "momentum", "centered", "maximize"),
}


def why_not(policy: ActorCriticPolicy) -> str | None:
    """Return what keeps a policy from being trained by the kernels, or None."""
    if not isinstance(policy.features_extractor, FlattenExtractor):
        return f"a features extractor ({type(policy.features_extractor).__name__})"
    if policy.activation_fn not in (nn.Tanh, nn.ReLU):
        return f"the activation {policy.activation_fn.__name__}"
    if not isinstance(policy.action_dist, (DiagGaussianDistribution, CategoricalDistribution)):
        return f"the action distribution {type(policy.action_dist).__name__}"
    depths = {len(_linear(net)) for net in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)}
    if not all(1 <= depth <= DEEPEST for depth in depths):
        return f"{' and '.join(map(str, sorted(depths)))} hidden layers, not 1 to {DEEPEST}"
    if policy.device.type != "cpu":
        return f"on the device {policy.device}"
    return why_not_optimizer(policy.optimizer, _PLAIN)


def why_not_optimizer(
    optimizer: torch.optim.Optimizer, known: Collection[type[torch.optim.Optimizer]]
) -> str | None:
    """Return what keeps an optimizer's steps from being taken by the kernels that are known, or None."""
    changes = _PLAIN[type(optimizer)] if type(optimizer) in known else None
    if changes is None or len(optimizer.param_groups) > 1:
        return f"with the optimizer {type(optimizer).__name__}"
    changed = [key for key in changes if optimizer.param_groups[0].get(key)]
    return f"with {' and '.join(changed)} of {type(optimizer).__name__}" if changed else None


def lay_out(policy: ActorCriticPolicy) -> tuple[Network, FlatParameters]:
    """Return the layout of a policy and its flat parameters; raise BadInputError where it is no plain MLP.

    The first matrices of both networks lie next to each other, so that one product computes both.
    """
    if reason := why_not(policy):
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
    stem = Stem(actor[0].in_features, units, 0, flat.start[2], policy.activation_fn is nn.Tanh)
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
