"""Gradient clipping, Adam and RMSprop, computed as by torch, with decoupled weight decay."""

import math
from typing import NamedTuple

import numpy as np
import torch

from envs.types import IntArray
from optimize.agents.kernels.bindings import kernel, refcounted_kernel
from optimize.agents.kernels.nets.layers import Vector
from optimize.agents.kernels.nets.parameters import FlatParameters
from optimize.agents.optimizers import decay_of


class Decay(NamedTuple):
    """Decoupled weight decay; Loshchilov & Hutter (2019)."""

    rate: float  # 0: none
    matrices: IntArray  # (M, 2) where each decayed matrix begins and ends in the parameters


class Adam(NamedTuple):
    """State and settings of Adam; Kingma & Ba (2015)."""

    mean: Vector  # of the gradient, exponentially weighted
    square: Vector  # of its square
    learning_rate: float
    beta_mean: float
    beta_square: float
    epsilon: float
    decay: Decay


class RMSprop(NamedTuple):
    """State and settings of RMSprop, uncentred and without momentum; Hinton's lecture 6e (2012)."""

    square: Vector
    learning_rate: float
    alpha: float
    epsilon: float
    decay: Decay


NO_DECAY = Decay(0.0, np.zeros((0, 2), np.int64))


def read_decay(flat: FlatParameters, optimizer: torch.optim.Optimizer) -> Decay:
    """Return the weight decay of an optimizer of flat parameters."""
    return Decay(decay_of(optimizer), flat.matrices())


def read_adam(flat: FlatParameters, optimizer: torch.optim.Optimizer) -> Adam:
    """Return the state and settings of an Adam."""
    settings = optimizer.param_groups[0]
    mean, square = flat.moment("exp_avg"), flat.moment("exp_avg_sq")
    beta_mean, beta_square = settings["betas"]
    decay = read_decay(flat, optimizer)
    return Adam(mean, square, float(settings["lr"]), beta_mean, beta_square, settings["eps"], decay)


def read_rmsprop(flat: FlatParameters, optimizer: torch.optim.Optimizer) -> RMSprop:
    """Return the state and settings of an RMSprop."""
    settings = optimizer.param_groups[0]
    square, decay = flat.moment("square_avg"), read_decay(flat, optimizer)
    return RMSprop(square, float(settings["lr"]), settings["alpha"], settings["eps"], decay)


@kernel
def clip_scale(gradient: Vector, max_norm: float) -> float:
    """Return the factor that limits the norm of a gradient to max_norm."""
    total = np.float32(0)
    for index in range(len(gradient)):
        total += gradient[index] * gradient[index]
    scale = max_norm / (math.sqrt(total) + 1e-6)
    return 1.0 if scale > 1.0 else scale  # NaN is returned as NaN


@kernel
def decay_weights(parameters: Vector, decay: Decay, learning_rate: float) -> None:
    """Take the share learning_rate * rate off each weight of a matrix."""
    kept = np.float32(1.0 - learning_rate * decay.rate)
    for number in range(len(decay.matrices)):
        for index in range(decay.matrices[number, 0], decay.matrices[number, 1]):
            parameters[index] *= kept


@kernel
def step_adam(parameters: Vector, gradient: Vector, scale: float, adam: Adam, step: int) -> None:
    """Take step number `step`, counted from 1, along the scaled gradient; Kingma & Ba (2015), algorithm 1."""
    if adam.decay.rate > 0.0:
        decay_weights(parameters, adam.decay, adam.learning_rate)
    rate = np.float32(adam.learning_rate / (1.0 - adam.beta_mean**step))
    to_unbiased = np.float32(1.0 / math.sqrt(1.0 - adam.beta_square**step))
    keep, add = np.float32(adam.beta_square), np.float32(1.0 - adam.beta_square)
    towards, epsilon = np.float32(1.0 - adam.beta_mean), np.float32(adam.epsilon)
    factor = np.float32(scale)
    mean, square = adam.mean, adam.square
    for index in range(len(parameters)):
        slope = gradient[index] * factor
        mean[index] += towards * (slope - mean[index])
        square[index] = keep * square[index] + add * slope * slope
        parameters[index] -= rate * mean[index] / (np.sqrt(square[index]) * to_unbiased + epsilon)


@refcounted_kernel
def clip_and_step_adam(parameters: Vector, gradient: Vector, max_norm: float, adam: Adam, step: int) -> None:
    """Take one Adam step along the gradient, clipped to max_norm."""
    step_adam(parameters, gradient, clip_scale(gradient, max_norm), adam, step)


@refcounted_kernel
def clip_and_step_rmsprop(parameters: Vector, gradient: Vector, max_norm: float, rmsprop: RMSprop) -> None:
    """Take one RMSprop step along the gradient, clipped to max_norm."""
    factor = np.float32(clip_scale(gradient, max_norm))
    if rmsprop.decay.rate > 0.0:
        decay_weights(parameters, rmsprop.decay, rmsprop.learning_rate)
    rate, epsilon = np.float32(rmsprop.learning_rate), np.float32(rmsprop.epsilon)
    keep, add = np.float32(rmsprop.alpha), np.float32(1.0 - rmsprop.alpha)
    square = rmsprop.square
    for index in range(len(parameters)):
        slope = gradient[index] * factor
        square[index] = keep * square[index] + add * slope * slope
        parameters[index] -= rate * slope / (np.sqrt(square[index]) + epsilon)
