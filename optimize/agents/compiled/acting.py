"""The policy network as it acts: one observation at a time, its first layer computed ahead."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.observations import show_window
from envs.types import BoolArray, FloatArray
from envs.world import World
from optimize.agents.compiled.actor_critic import Network
from optimize.agents.compiled.kernels import counting_kernel, kernel
from optimize.agents.compiled.layers import Branch, Matrix, Vector, rational_tanh

CHUNK = 256  # bars whose first layer is computed in one product


class Actor(NamedTuple):
    """The policy network as it acts: matrices transposed, its first layer known for every bar to come."""

    row_of: NDArray[np.int32]  # (T,) row of each bar in `known`, -1 where it is not computed
    known: Matrix  # (rows, units) first layer from features and bias, before the account and the activation
    windows: Matrix  # (L * A * F, units) its weights on the features
    beside: Matrix  # (S, units) its weights on the rest of an observation
    transposed: Vector  # the parameters, with the matrices of the later layers as (in, out)
    values: Matrix  # (2, widest) of two layers in turn


@counting_kernel
def know_bars(
    network: Network,
    bias: Vector,
    world: World,
    steps: int,
    wanted: BoolArray,
    actor: Actor,
    known: int,
    observation: Matrix,
) -> int:
    """Compute the first layer of the bars that the wanted rows (N,) can observe within so many steps.

    Return how many bars are known. Features do not depend on actions, so one product serves many bars, once.
    """
    window = world.layout.weight
    pending = 0
    for row in range(len(wanted)):
        first = world.bar[row]
        stop = min(first + steps, world.last[row]) if wanted[row] else first
        for bar in range(first, stop):
            if actor.row_of[bar] >= 0:
                continue
            actor.row_of[bar] = known + pending
            show_window(world.features, bar, window, observation[pending])
            pending += 1
            if pending == CHUNK:
                multiply(observation, actor.windows, bias, actor.known[known : known + pending])
                known += pending
                pending = 0
    if pending > 0:
        multiply(observation[:pending], actor.windows, bias, actor.known[known : known + pending])
    return known + pending


@counting_kernel
def multiply(observation: Matrix, weight: Matrix, bias: Vector, out: Matrix) -> None:
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
def think(network: Network, parameters: Vector, actor: Actor, bar: int, beside: Vector) -> int:
    """Pass the observation of a bar and an account through the policy; return which row of values has it."""
    known = actor.known[actor.row_of[bar]]
    tanh = network.stem.tanh
    return go_on(network.actor, tanh, parameters, actor.transposed, known, actor.beside, beside, actor.values)


@kernel
def go_on(
    branch: Branch,
    tanh: bool,
    parameters: Vector,
    transposed: Vector,
    known: Vector,
    weights_beside: Matrix,
    beside: Vector,
    values: Matrix,
) -> int:
    """Go on from a first layer (units,) that knows its features alone; return the row of the last values.

    The biases of the later layers are read from the parameters, their matrices (in, out) from `transposed`.
    """
    given = values[0]
    units = branch.units[0]
    for unit in range(units):
        given[unit] = known[unit]
    for index in range(len(beside)):
        seen, weights = beside[index], weights_beside[index]
        for unit in range(units):
            given[unit] += seen * weights[unit]
    activate_row(given, units, tanh)
    layers = len(branch.weight)
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
def choose(logits: Vector, choices: int, uniform: float) -> int:
    """Return the choice in whose share of the unit interval the number falls; -1 of a NaN."""
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
def act(
    network: Network,
    parameters: Vector,
    output: Vector,
    noise: Vector,
    lowest: float,
    action: Vector,
    target: FloatArray,
) -> None:
    """Draw the action (A,) and write what the environment gets of it, within its range, to target (A,)."""
    if network.discrete:
        action[0] = choose(output, network.actor.units[-1], noise[0])
        target[0] = action[0] + lowest  # of no choice it is one that the environment refuses
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
