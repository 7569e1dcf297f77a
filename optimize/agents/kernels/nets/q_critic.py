"""Two critics of states and actions with target networks, and the optimizer steps of all networks."""

from typing import NamedTuple

import numpy as np
import torch

from envs.types import FloatArray, IntArray
from optimize.agents.kernels.bindings import inner_kernel, kernel
from optimize.agents.kernels.nets.layers import Matrix, Vector
from optimize.agents.kernels.nets.optimizers import NO_DECAY, Adam, clip_scale, read_adam, step_adam
from optimize.agents.kernels.nets.parameters import FlatParameters
from optimize.agents.kernels.nets.perceptrons import (
    LayerValues,
    Perceptrons,
    backward_perceptrons,
    forward_perceptrons,
    perceptron_output,
)

NO_LIMIT = float("inf")


class Trainable(NamedTuple):
    """Parameters with gradient and optimizer state."""

    parameters: Vector
    gradient: Vector
    adam: Adam  # its learning rate is replaced in each update
    steps: IntArray  # (1,) taken by the optimizer


class Critics(NamedTuple):
    """Perceptrons with one output, the value of an action."""

    nets: Perceptrons
    learned: Trainable
    target: Vector  # parameters of the target networks
    values: LayerValues
    deltas: LayerValues


def read_trainable(flat: FlatParameters, optimizer: torch.optim.Optimizer) -> Trainable:
    """Return parameters with the state and settings of their Adam."""
    return Trainable(flat.values(), flat.gradient, read_adam(flat, optimizer), np.array([flat.steps()]))


def zero_trainable(size: int) -> Trainable:
    """Return zero parameters that are never updated."""
    zeros = [np.zeros(size, np.float32) for _ in range(4)]
    adam = Adam(zeros[2], zeros[3], 0.0, 0.9, 0.999, 1e-8, NO_DECAY)
    return Trainable(zeros[0], zeros[1], adam, np.zeros(1, np.int64))


@inner_kernel
def optimizer_step(learned: Trainable, learning_rate: float, max_norm: float) -> None:
    """Take one Adam step along the gradient, clipped to max_norm unless that is infinite."""
    given = learned.adam
    adam = Adam(
        given.mean,
        given.square,
        learning_rate,
        given.beta_mean,
        given.beta_square,
        given.epsilon,
        given.decay,
    )
    learned.steps[0] += 1
    scale = clip_scale(learned.gradient, max_norm) if max_norm < NO_LIMIT else 1.0
    step_adam(learned.parameters, learned.gradient, scale, adam, learned.steps[0])


@kernel
def polyak_update(target: Vector, parameters: Vector, tau: float) -> None:
    """Move the target parameters towards the trained ones by the share tau."""
    keep, add = np.float32(1.0 - tau), np.float32(tau)
    for index in range(len(target)):
        target[index] = keep * target[index] + add * parameters[index]


@inner_kernel
def lower_critic_values(critics: Critics, parameters: Vector, with_action: Vector, lower: Vector) -> None:
    """Write the lower value (B,) of both critics under these parameters."""
    count = len(lower)
    forward_perceptrons(critics.nets, parameters, with_action, critics.values, count)
    one, two = (
        perceptron_output(critics.nets, critics.values, 0, count),
        perceptron_output(critics.nets, critics.values, 1, count),
    )
    for sample in range(count):
        lower[sample] = min(one[0, sample], two[0, sample])


@inner_kernel
def update_critics(
    critics: Critics, with_action: Vector, target: Vector, weight: float, learning_rate: float
) -> float:
    """Take a step towards the target values (B,); return weight * the sum of the mean square errors."""
    count = len(target)
    nets, learned = critics.nets, critics.learned
    forward_perceptrons(nets, learned.parameters, with_action, critics.values, count)
    loss = 0.0
    for number in range(len(nets.branches)):
        value = perceptron_output(nets, critics.values, number, count)
        delta = perceptron_output(nets, critics.deltas, number, count)
        for sample in range(count):
            error = value[0, sample] - target[sample]
            loss += float(error) * error
            delta[0, sample] = 2.0 * weight * error / count
    backward_perceptrons(
        nets, learned.parameters, learned.gradient, with_action, critics.values, critics.deltas, count
    )
    optimizer_step(learned, learning_rate, NO_LIMIT)
    return weight * loss / count


@kernel
def scale_actions(action: Matrix, lowest: float, target: FloatArray) -> None:
    """Write actions (N, A) between -1 and 1 as exposures between lowest and 1."""
    for row in range(action.shape[0]):
        for asset in range(action.shape[1]):
            target[row, asset] = lowest + 0.5 * (float(action[row, asset]) + 1.0) * (1.0 - lowest)
