"""Policy network during a rollout: one observation at a time, with a precomputed first layer."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.env_state import EnvState
from envs.observations import write_feature_window
from envs.types import BoolArray, FloatArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel
from optimize.agents.kernels.nets.actor_critic import Network
from optimize.agents.kernels.nets.layers import Branch, Matrix, Vector, rational_tanh

CHUNK = 256  # bars whose first layer is computed in one product


class RolloutPolicy(NamedTuple):
    """Policy network during a rollout: transposed matrices, and the first layer of every bar to come."""

    row_of_bar: NDArray[np.int32]  # (T,) row of each bar in `first_layer`, -1 where it is not computed
    first_layer: (
        Matrix  # (rows, units) first layer from features and bias, before the account and the activation
    )
    window_weights: Matrix  # (L * A * F, units) its weights on the features
    account_weights: Matrix  # (S, units) its weights on the rest of an observation
    transposed: Vector  # the parameters, with the matrices of the later layers as (in, out)
    values: Matrix  # (2, widest) of two layers in turn


@refcounted_kernel
def precompute_first_layer(
    network: Network,
    bias: Vector,
    env: EnvState,
    steps: int,
    wanted: BoolArray,
    policy: RolloutPolicy,
    known: int,
    observation: Matrix,
) -> int:
    """Compute the first layer of the bars that the wanted rows (N,) can observe within `steps` steps.

    Return the number of computed bars. Features do not depend on actions, so one product covers many bars.
    """
    window = env.layout.weight
    pending = 0
    for row in range(len(wanted)):
        first = env.bar[row]
        stop = min(first + steps, env.last[row]) if wanted[row] else first
        for bar in range(first, stop):
            if policy.row_of_bar[bar] >= 0:
                continue
            policy.row_of_bar[bar] = known + pending
            write_feature_window(env.features, bar, window, observation[pending])
            pending += 1
            if pending == CHUNK:
                linear_layer(
                    observation, policy.window_weights, bias, policy.first_layer[known : known + pending]
                )
                known += pending
                pending = 0
    if pending > 0:
        linear_layer(
            observation[:pending], policy.window_weights, bias, policy.first_layer[known : known + pending]
        )
    return known + pending


@refcounted_kernel
def linear_layer(observation: Matrix, weight: Matrix, bias: Vector, out: Matrix) -> None:
    """Write observation (B, D) times weight (D, units), plus the bias."""
    np.dot(observation, weight, out)
    for row in range(out.shape[0]):
        for unit in range(out.shape[1]):
            out[row, unit] += bias[unit]


@kernel
def activate_row(values: Vector, units: int, tanh: bool) -> None:
    """Apply the activation in place."""
    if tanh:
        for unit in range(units):
            values[unit] = rational_tanh(values[unit])
    else:
        for unit in range(units):
            values[unit] = max(values[unit], np.float32(0))


@kernel
def forward_policy(
    network: Network, parameters: Vector, policy: RolloutPolicy, bar: int, account: Vector
) -> int:
    """Pass the observation of a bar and an account through the policy; return the row of the output."""
    known = policy.first_layer[policy.row_of_bar[bar]]
    tanh = network.stem.tanh
    return forward_tail(
        network.actor,
        tanh,
        parameters,
        policy.transposed,
        known,
        policy.account_weights,
        account,
        policy.values,
    )


@kernel
def forward_tail(
    branch: Branch,
    tanh: bool,
    parameters: Vector,
    transposed: Vector,
    known: Vector,
    account_weights: Matrix,
    account: Vector,
    values: Matrix,
) -> int:
    """Finish the forward pass from a precomputed first layer (units,); return the row of the output.

    The biases of the later layers are read from the parameters, their matrices (in, out) from `transposed`.
    """
    given = values[0]
    units = branch.units[0]
    for unit in range(units):
        given[unit] = known[unit]
    for index in range(len(account)):
        value, weights = account[index], account_weights[index]
        for unit in range(units):
            given[unit] += value * weights[unit]
    layers = len(branch.weight)
    if layers > 0:
        activate_row(given, units, tanh)
    for layer in range(layers):
        given, made = values[layer % 2], values[(layer + 1) % 2]
        inputs, units = units, branch.units[layer + 1]
        bias = parameters[branch.bias[layer] : branch.bias[layer] + units]
        for unit in range(units):
            made[unit] = bias[unit]
        start = branch.weight[layer]
        for source in range(inputs):
            value = given[source]
            weights = transposed[start + source * units : start + (source + 1) * units]
            for unit in range(units):
                made[unit] += value * weights[unit]
        if layer < layers - 1:
            activate_row(made, units, tanh)
    return layers % 2


@kernel
def sample_choice(logits: Vector, choices: int, uniform: float) -> int:
    """Return the choice whose share of the unit interval contains a uniform number; -1 for NaN."""
    highest = logits[0]
    for choice in range(1, choices):
        highest = max(highest, logits[choice])
    total = 0.0
    for choice in range(choices):
        total += math.exp(logits[choice] - highest)
    if not math.isfinite(total):
        return -1
    reached = 0.0
    for choice in range(choices - 1):
        reached += math.exp(logits[choice] - highest)
        if uniform * total < reached:
            return choice
    return choices - 1


@kernel
def sample_action(
    network: Network,
    parameters: Vector,
    output: Vector,
    noise: Vector,
    lowest: float,
    action: Vector,
    target: FloatArray,
) -> None:
    """Draw the action (A,) and write it, clipped to its range, to target (A,)."""
    if network.discrete:
        action[0] = sample_choice(output, network.actor.units[-1], noise[0])
        target[0] = action[0] + lowest  # choice -1 becomes an action that the environment refuses
        return
    for asset in range(len(action)):
        deviation = math.exp(parameters[network.log_std + asset])
        action[asset] = output[asset] + deviation * noise[asset]
        cut = action[asset]
        if cut < lowest:
            cut = np.float32(lowest)
        elif cut > 1.0:
            cut = np.float32(1.0)
        target[asset] = cut
