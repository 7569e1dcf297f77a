"""Multi-layer perceptrons over flat vectors: values forward, gradients back.

Values are (units, B) for a batch of B, so that a bias is one number per row and loops over a row vectorise;
observations are (B, D). All are float32.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.types import IntArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel

Vector = NDArray[np.float32]  # one axis
Matrix = NDArray[np.float32]  # two axes


class Stem(NamedTuple):
    """The first layers of all networks that read the same observations, as one layer."""

    inputs: int  # D
    units: int  # of all these first layers
    weight: int  # where the matrix (units, D) begins in the parameters
    bias: int  # where the vector (units,) begins
    tanh: bool  # the activation of all layers but the last; else ReLU
    linear: bool  # these layers are the last ones too: they have no activation


class Branch(NamedTuple):
    """The layers of one network after its first; the last one is linear. A linear network has none."""

    first: int  # where its first layer begins among the units of the stem
    units: IntArray  # (n + 1,) of its first layer, of each layer here
    weight: IntArray  # (n,) where each matrix (out, in) begins in the parameters
    bias: IntArray  # (n,)
    place: IntArray  # (n,) units of this branch before each layer


@kernel
def rational_tanh(x: np.float32) -> np.float32:
    """Return tanh(x) within 3e-7, by the rational function of Eigen (13/6 degrees), which vectorises."""
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    square = x * x
    above = np.float32(-2.76076847742355e-16)
    above = above * square + np.float32(2.00018790482477e-13)
    above = above * square + np.float32(-8.60467152213735e-11)
    above = above * square + np.float32(5.12229709037114e-08)
    above = above * square + np.float32(1.48572235717979e-05)
    above = above * square + np.float32(6.37261928875436e-04)
    above = above * square + np.float32(4.89352455891786e-03)
    below = np.float32(1.19825839466702e-06)
    below = below * square + np.float32(1.18534705686654e-04)
    below = below * square + np.float32(2.26843463243900e-03)
    below = below * square + np.float32(4.89352518554385e-03)
    return x * above / below


@kernel
def activate(values: Matrix, bias: Vector, tanh: bool) -> None:
    """Add the bias (units,) to values (units, B) and apply the activation, in place."""
    if tanh:
        for unit in range(values.shape[0]):
            row, shift = values[unit], bias[unit]
            for column in range(len(row)):
                row[column] = rational_tanh(row[column] + shift)
    else:
        for unit in range(values.shape[0]):
            row, shift = values[unit], bias[unit]
            for column in range(len(row)):
                row[column] = max(row[column] + shift, np.float32(0))


@kernel
def add_bias(values: Matrix, bias: Vector) -> None:
    """Add the bias (units,) to values (units, B), in place."""
    for unit in range(values.shape[0]):
        row, shift = values[unit], bias[unit]
        for column in range(len(row)):
            row[column] += shift


@kernel
def backward_activation(delta: Matrix, values: Matrix, tanh: bool) -> None:
    """Turn the gradient by activated values (units, B) into the gradient by their inputs, in place.

    tanh' = 1 - tanh^2; that of ReLU is 1 where its value is above 0, else 0.
    """
    for unit in range(values.shape[0]):
        row, value = delta[unit], values[unit]
        if tanh:
            for column in range(len(row)):
                row[column] *= np.float32(1) - value[column] * value[column]
        else:
            for column in range(len(row)):
                row[column] = row[column] if value[column] > np.float32(0) else np.float32(0)


@kernel
def bias_gradient(delta: Matrix, out: Vector) -> None:
    """Write the sum of each row of delta (units, B): the gradient by a bias."""
    for unit in range(delta.shape[0]):
        row = delta[unit]
        total = np.float32(0)
        for column in range(len(row)):
            total += row[column]
        out[unit] = total


@refcounted_kernel
def matrix_view(flat: Vector, start: int, rows: int, columns: int) -> Matrix:
    """Return the matrix (rows, columns) that begins at start, as a view."""
    return flat[start : start + rows * columns].reshape(rows, columns)


@refcounted_kernel
def forward_stem(stem: Stem, parameters: Vector, observation: Matrix, values: Matrix) -> None:
    """Write the first layers, values (units, B), of observations (B, D), activated unless they are linear."""
    weight = matrix_view(parameters, stem.weight, stem.units, stem.inputs)
    np.dot(weight, observation.T, values)
    bias = parameters[stem.bias : stem.bias + stem.units]
    if stem.linear:
        add_bias(values, bias)
    else:
        activate(values, bias, stem.tanh)


@refcounted_kernel
def backward_stem(stem: Stem, gradient: Vector, observation: Matrix, values: Matrix, delta: Matrix) -> None:
    """Write the gradient by the first layers; delta (units, B) is that by their values, and is used up."""
    if not stem.linear:
        backward_activation(delta, values, stem.tanh)
    np.dot(delta, observation, matrix_view(gradient, stem.weight, stem.units, stem.inputs))
    bias_gradient(delta, gradient[stem.bias : stem.bias + stem.units])


@refcounted_kernel
def forward_branch(
    branch: Branch, parameters: Vector, stem_values: Vector, values: Vector, batch: int, tanh: bool
) -> None:
    """Write the values (units, B) of every layer, one after the other; the last is the output."""
    layers = len(branch.weight)
    given = matrix_view(stem_values, branch.first * batch, branch.units[0], batch)
    for layer in range(layers):
        units = branch.units[layer + 1]
        made = matrix_view(values, branch.place[layer] * batch, units, batch)
        np.dot(matrix_view(parameters, branch.weight[layer], units, branch.units[layer]), given, made)
        bias = parameters[branch.bias[layer] : branch.bias[layer] + units]
        if layer == layers - 1:
            add_bias(made, bias)
        else:
            activate(made, bias, tanh)
        given = made


@refcounted_kernel
def backward_branch(
    branch: Branch,
    parameters: Vector,
    gradient: Vector,
    stem_values: Vector,
    values: Vector,
    stem_delta: Vector,
    delta: Vector,
    batch: int,
    tanh: bool,
) -> None:
    """Write the gradient by every layer and by the stem's values; by these values alone if gradient is empty.

    The output layer of the deltas comes in as the gradient by the output; the rest of them is written.
    """
    for layer in range(len(branch.weight) - 1, -1, -1):
        units, inputs = branch.units[layer + 1], branch.units[layer]
        weight = matrix_view(parameters, branch.weight[layer], units, inputs)
        by_made = matrix_view(delta, branch.place[layer] * batch, units, batch)
        if layer == 0:
            given = matrix_view(stem_values, branch.first * batch, inputs, batch)
            by_given = matrix_view(stem_delta, branch.first * batch, inputs, batch)
        else:
            given = matrix_view(values, branch.place[layer - 1] * batch, inputs, batch)
            by_given = matrix_view(delta, branch.place[layer - 1] * batch, inputs, batch)
        if len(gradient) > 0:
            np.dot(by_made, given.T, matrix_view(gradient, branch.weight[layer], units, inputs))
            bias_gradient(by_made, gradient[branch.bias[layer] : branch.bias[layer] + units])
        np.dot(weight.T, by_made, by_given)
        if layer > 0:
            backward_activation(by_given, given, tanh)


@refcounted_kernel
def output_layer(branch: Branch, stem_values: Vector, values: Vector, batch: int) -> Matrix:
    """Return the last layer (outputs, B) of a network's values, or of its deltas, as a view."""
    if len(branch.weight) == 0:
        return matrix_view(stem_values, branch.first * batch, branch.units[0], batch)
    return matrix_view(values, branch.place[-1] * batch, branch.units[-1], batch)
