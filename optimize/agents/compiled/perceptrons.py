"""Perceptrons that read the same input, side by side: one actor, two critics or the values of choices."""

from typing import NamedTuple

import numpy as np

from optimize.agents.compiled.kernels import inner_kernel
from optimize.agents.compiled.layers import (
    Branch,
    Matrix,
    Stem,
    Vector,
    backward_branch,
    backward_stem,
    block,
    forward_branch,
    forward_stem,
    output_of,
    through_activation,
)


class Nets(NamedTuple):
    """Where the parts of perceptrons lie in their flat parameters."""

    stem: Stem  # their first layers as one
    branches: tuple[Branch, ...]


class Values(NamedTuple):
    """What every layer gives for a batch, or the gradient by it; a smaller batch uses the front of it."""

    stem: Vector  # B * units
    branches: tuple[Vector, ...]


def make_values(nets: Nets, batch: int) -> Values:
    """Return room for batches of up to this size."""
    sizes = [int(branch.units[1:].sum()) for branch in nets.branches]
    return Values(
        np.zeros(nets.stem.units * batch, np.float32),
        tuple(np.zeros(size * batch, np.float32) for size in sizes),
    )


@inner_kernel
def forward(nets: Nets, parameters: Vector, given: Vector, values: Values, batch: int) -> None:
    """Pass the inputs (B, D) through all layers."""
    stem = nets.stem
    shown = block(given, 0, batch, stem.inputs)
    forward_stem(stem, parameters, shown, block(values.stem, 0, stem.units, batch))
    for branch, made in zip(nets.branches, values.branches):  # noqa: B905 (numba knows no strict)
        forward_branch(branch, parameters, values.stem, made, batch, stem.tanh)


@inner_kernel
def backward(
    nets: Nets,
    parameters: Vector,
    gradient: Vector,
    given: Vector,
    values: Values,
    deltas: Values,
    batch: int,
) -> None:
    """Write the whole gradient; the last layers of the deltas come in as the gradients by the outputs."""
    through_branches(nets, parameters, gradient, values, deltas, batch)
    stem = nets.stem
    backward_stem(
        stem,
        gradient,
        block(given, 0, batch, stem.inputs),
        block(values.stem, 0, stem.units, batch),
        block(deltas.stem, 0, stem.units, batch),
    )


@inner_kernel
def through_branches(
    nets: Nets, parameters: Vector, gradient: Vector, values: Values, deltas: Values, batch: int
) -> None:
    """Go back as far as the values of the first layers; an empty gradient is not written."""
    tanh = nets.stem.tanh
    for branch, made, delta in zip(nets.branches, values.branches, deltas.branches):  # noqa: B905
        backward_branch(branch, parameters, gradient, values.stem, made, deltas.stem, delta, batch, tanh)


@inner_kernel
def slope_by_input(
    nets: Nets,
    parameters: Vector,
    values: Values,
    deltas: Values,
    first: int,
    slope: Matrix,
    batch: int,
) -> None:
    """Write the gradient, slope (n, B), by n columns of the inputs, the first of them the one of that number.

    It is summed over the perceptrons. No gradient by a weight is computed.
    """
    through_branches(nets, parameters, parameters[:0], values, deltas, batch)
    stem = nets.stem
    delta = block(deltas.stem, 0, stem.units, batch)
    through_activation(delta, block(values.stem, 0, stem.units, batch), stem.tanh)
    for column in range(slope.shape[0]):
        row = slope[column]
        row[:] = np.float32(0)
        for unit in range(stem.units):
            weight = parameters[stem.weight + unit * stem.inputs + first + column]
            by_unit = delta[unit]
            for sample in range(batch):
                row[sample] += weight * by_unit[sample]


@inner_kernel
def outputs(nets: Nets, values: Values, number: int, batch: int) -> Matrix:
    """Return what the perceptron of that number says (outputs, B), or the gradient by it, as a view."""
    return output_of(nets.branches[number], values.branches[number], batch)
