"""Perceptrons that read the same input, side by side: one actor, two critics or the values of choices."""

from typing import NamedTuple

import numpy as np

from optimize.agents.kernels.bindings import inner_kernel
from optimize.agents.kernels.nets.layers import (
    Branch,
    Matrix,
    Stem,
    Vector,
    backward_activation,
    backward_branch,
    backward_stem,
    forward_branch,
    forward_stem,
    matrix_view,
    output_layer,
)


class Perceptrons(NamedTuple):
    """Where the parts of perceptrons lie in their flat parameters."""

    stem: Stem  # their first layers as one
    branches: tuple[Branch, ...]


class LayerValues(NamedTuple):
    """Values of every layer for a batch, or the gradient by them; a smaller batch uses the front."""

    stem: Vector  # B * units
    branches: tuple[Vector, ...]


def make_layer_values(nets: Perceptrons, batch: int) -> LayerValues:
    """Return buffers for batches of up to this size."""
    sizes = [int(branch.units[1:].sum()) for branch in nets.branches]
    return LayerValues(
        np.zeros(nets.stem.units * batch, np.float32),
        tuple(np.zeros(size * batch, np.float32) for size in sizes),
    )


@inner_kernel
def forward_perceptrons(
    nets: Perceptrons, parameters: Vector, given: Vector, values: LayerValues, batch: int
) -> None:
    """Pass the inputs (B, D) through all layers."""
    stem = nets.stem
    shown = matrix_view(given, 0, batch, stem.inputs)
    forward_stem(stem, parameters, shown, matrix_view(values.stem, 0, stem.units, batch))
    for branch, made in zip(nets.branches, values.branches):  # noqa: B905 (numba has no strict)
        forward_branch(branch, parameters, values.stem, made, batch, stem.tanh)


@inner_kernel
def backward_perceptrons(
    nets: Perceptrons,
    parameters: Vector,
    gradient: Vector,
    given: Vector,
    values: LayerValues,
    deltas: LayerValues,
    batch: int,
) -> None:
    """Write the whole gradient; the last layers of the deltas come in as the gradients by the outputs."""
    backward_branches(nets, parameters, gradient, values, deltas, batch)
    stem = nets.stem
    backward_stem(
        stem,
        gradient,
        matrix_view(given, 0, batch, stem.inputs),
        matrix_view(values.stem, 0, stem.units, batch),
        matrix_view(deltas.stem, 0, stem.units, batch),
    )


@inner_kernel
def backward_branches(
    nets: Perceptrons,
    parameters: Vector,
    gradient: Vector,
    values: LayerValues,
    deltas: LayerValues,
    batch: int,
) -> None:
    """Propagate back to the values of the first layers; an empty gradient is not written."""
    tanh = nets.stem.tanh
    for branch, made, delta in zip(nets.branches, values.branches, deltas.branches):  # noqa: B905
        backward_branch(branch, parameters, gradient, values.stem, made, deltas.stem, delta, batch, tanh)


@inner_kernel
def input_gradient(
    nets: Perceptrons,
    parameters: Vector,
    values: LayerValues,
    deltas: LayerValues,
    first: int,
    slope: Matrix,
    batch: int,
) -> None:
    """Write the gradient, slope (n, B), by n columns of the inputs from column `first` on.

    It is summed over the perceptrons; no gradient by a weight is computed.
    """
    backward_branches(nets, parameters, parameters[:0], values, deltas, batch)
    stem = nets.stem
    delta = matrix_view(deltas.stem, 0, stem.units, batch)
    if not stem.linear:
        backward_activation(delta, matrix_view(values.stem, 0, stem.units, batch), stem.tanh)
    for column in range(slope.shape[0]):
        row = slope[column]
        row[:] = np.float32(0)
        for unit in range(stem.units):
            weight = parameters[stem.weight + unit * stem.inputs + first + column]
            by_unit = delta[unit]
            for sample in range(batch):
                row[sample] += weight * by_unit[sample]


@inner_kernel
def perceptron_output(nets: Perceptrons, values: LayerValues, number: int, batch: int) -> Matrix:
    """Return the outputs (outputs, B) of one perceptron, or the gradient by them, as a view."""
    return output_layer(nets.branches[number], values.stem, values.branches[number], batch)
