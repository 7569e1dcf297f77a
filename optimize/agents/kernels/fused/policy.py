"""Layers of an SB3 policy that compute its deterministic action."""

from collections.abc import Iterable
from typing import NamedTuple

from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

CLIPPED, SQUASHED, CHOICE = range(3)
"""Conversion of the last layer: clipped to the action range, tanh scaled to the range, or the best choice."""


class PolicyLayers(NamedTuple):
    """Layers of a perceptron and the conversion of its last layer to an action."""

    layers: tuple[nn.Linear, ...]
    tanh: bool  # the activation of all layers but the last; else ReLU
    kind: int  # CLIPPED, SQUASHED or CHOICE


def read_policy_layers(policy: BasePolicy) -> PolicyLayers | None:
    """Return the layers of a policy, or None if it is not a plain perceptron on the CPU."""
    parts = _parts(policy)
    if parts is None or policy.device.type != "cpu":
        return None
    extractor, modules, kind = parts
    layers = tuple(module for module in modules if isinstance(module, nn.Linear))
    between = {type(module) for module in modules if not isinstance(module, nn.Linear)}
    known = ({nn.Tanh}, {nn.ReLU}) if len(layers) > 1 else (set[type[nn.Module]](),)  # or linear
    plain = isinstance(extractor, FlattenExtractor) and between in known
    if not plain or len(modules) != 2 * len(layers) - 1:
        return None
    return PolicyLayers(layers, between == {nn.Tanh}, kind)


def _parts(policy: BasePolicy) -> tuple[BaseFeaturesExtractor, list[nn.Module], int] | None:
    """Return the features extractor, the modules after it in order, and the conversion of the last layer."""
    if type(policy) is ActorCriticPolicy:
        if type(policy.action_dist) is CategoricalDistribution:
            kind = CHOICE
        elif type(policy.action_dist) is DiagGaussianDistribution and not policy.squash_output:
            kind = CLIPPED
        else:
            return None
        modules = [*_flat(policy.mlp_extractor.policy_net), policy.action_net]
        return policy.pi_features_extractor, modules, kind
    if type(policy) is SACPolicy and not policy.actor.use_sde:
        modules = [*_flat(policy.actor.latent_pi), policy.actor.mu]
        return policy.actor.features_extractor, modules, SQUASHED
    if type(policy) is TD3Policy:
        modules = _flat(policy.actor.mu)[:-1]  # without the final tanh
        return policy.actor.features_extractor, modules, SQUASHED
    if type(policy) is DQNPolicy:
        return policy.q_net.features_extractor, _flat(policy.q_net.q_net), CHOICE
    return None


def _flat(net: Iterable[nn.Module]) -> list[nn.Module]:
    return list(net)
