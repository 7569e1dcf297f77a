"""Rollout of a trained policy over whole spans in one compiled call, with a precomputed first layer."""

import math
from functools import cache
from typing import NamedTuple, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from envs.compiled import bind_kernels
from envs.env_state import EnvState
from envs.fused_rollout import RolloutKernel, make_step_buffers, rollout_rows
from envs.observations import write_feature_window
from envs.policy import FusedRollout
from envs.rewards import RewardFunction, net_log_return
from envs.trajectory import Trajectory
from envs.types import FloatArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel
from optimize.agents.kernels.fused.policy import CHOICE, SQUASHED, PolicyLayers, read_policy_layers
from optimize.agents.kernels.nets.layers import Branch, Matrix, Vector
from optimize.agents.kernels.nets.policy_head import CHUNK, forward_tail, linear_layer


class CompiledPolicy(NamedTuple):
    """A policy network with transposed matrices, and its buffers."""

    window_weights: Matrix  # (L * A * F, units) of the first layer on the features
    account_weights: Matrix  # (S, units) of it on the rest of an observation
    first_bias: Vector  # (units,)
    tail: Vector  # the layers after it, each as (in, out) and then its bias
    branch: Branch  # where they begin
    tanh: bool  # the activation of all layers but the last; else ReLU
    head: int  # CLIPPED, SQUASHED or CHOICE
    low: Vector  # (A,) of the actions
    high: Vector  # (A,)
    observation: Matrix  # (CHUNK, L * A * F) of the bars to come
    first_layer: Matrix  # (CHUNK, units) their first layer, before the account and the activation
    values: Matrix  # (2, widest) of two layers in turn


@refcounted_kernel
def precompute_span(net: CompiledPolicy, row: int, env: EnvState) -> None:
    """Precompute the first layer of the next CHUNK bars of a row."""
    first = env.bar[row]
    count = min(env.last[row] - first, CHUNK)
    for index in range(count):
        write_feature_window(env.features, first + index, env.layout.weight, net.observation[index])
    linear_layer(net.observation[:count], net.window_weights, net.first_bias, net.first_layer[:count])


@kernel
def best_action(values: Vector, choices: int) -> float:
    """Return the first choice of the highest value, or NaN if a value is NaN."""
    best = 0
    for choice in range(choices):
        if math.isnan(values[choice]):
            return math.nan
        if values[choice] > values[best]:
            best = choice
    return float(best)


@kernel
def write_action(net: CompiledPolicy, output: Vector, action: FloatArray) -> None:
    """Write the deterministic action (A,) as SB3's `predict` returns it, within its range."""
    if net.head == CHOICE:
        action[0] = best_action(output, net.branch.units[-1])
        return
    for asset in range(len(action)):
        low, high = net.low[asset], net.high[asset]
        value = output[asset]
        if math.isnan(value):
            action[asset] = math.nan
        elif net.head == SQUASHED:
            squashed = np.float32(math.tanh(value))
            action[asset] = low + np.float32(0.5) * (squashed + np.float32(1)) * (high - low)
        else:
            action[asset] = min(max(value, low), high)


@refcounted_kernel
def policy_action(
    net: CompiledPolicy, row: int, step: int, env: EnvState, account: NDArray[np.float32], action: FloatArray
) -> None:
    """Write the action of an observation; the chunks of a span are the same in every rollout."""
    if step % CHUNK == 0:
        precompute_span(net, row, env)
    first_layer = net.first_layer[step % CHUNK]
    row_of_output = forward_tail(
        net.branch, net.tanh, net.tail, net.tail, first_layer, net.account_weights, account, net.values
    )
    write_action(net, net.values[row_of_output], action)


@cache
def _network_rollout(reward: RewardFunction) -> RolloutKernel[CompiledPolicy]:
    """Return `rollout_rows` compiled for networks and this reward."""
    return refcounted_kernel(
        bind_kernels(
            rollout_rows, f"rollout_network_{reward.__name__}", _write_action=policy_action, _reward=reward
        )
    )


def fuse(policy: BasePolicy, env: EnvState, reward: RewardFunction) -> FusedRollout | None:
    """Return a rollout with the deterministic actions of SB3's policy, or None if it has no kernel."""
    head = read_policy_layers(policy)
    if head is None or head.layers[0].in_features != env.layout.size:
        return None
    net = _compile_policy(head, env.layout.weight, policy.action_space)
    # a reward without state is not observed, so all such rewards share one kernel
    run = _network_rollout(reward if env.reward_state.shape[1] else net_log_return)

    def fused(env: EnvState, trajectory: Trajectory) -> None:
        run(net, env, make_step_buffers(env), trajectory, 0, len(env.bar))

    return fused


def _compile_policy(head: PolicyLayers, window: int, space: spaces.Space[object]) -> CompiledPolicy:
    first, *later = head.layers
    weights = [layer.weight.detach().cpu().numpy().T for layer in head.layers]
    biases = [layer.bias.detach().cpu().numpy() for layer in head.layers]
    sizes = [part.size for pair in zip(weights[1:], biases[1:], strict=True) for part in pair]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    units = np.array([layer.out_features for layer in (first, *later)], dtype=np.int64)
    parts = [np.ravel(part) for pair in zip(weights[1:], biases[1:], strict=True) for part in pair]
    bounds = (space.low, space.high) if isinstance(space, spaces.Box) else (np.zeros(1), np.zeros(1))
    low, high = (np.ravel(bound).astype(np.float32) for bound in bounds)
    return CompiledPolicy(
        window_weights=np.ascontiguousarray(weights[0][:window]),
        account_weights=np.ascontiguousarray(weights[0][window:]),
        first_bias=biases[0].copy(),
        tail=cast(Vector, np.concatenate(parts)) if parts else np.zeros(0, np.float32),
        branch=Branch(0, units, starts[:-1:2].copy(), starts[1::2].copy(), np.zeros_like(starts[:-1:2])),
        tanh=head.tanh,
        head=head.kind,
        low=low,
        high=high,
        observation=np.empty((CHUNK, window), np.float32),
        first_layer=np.empty((CHUNK, int(units[0])), np.float32),
        values=np.empty((2, int(units.max())), np.float32),
    )
