"""The policy of SAC: normal distributions, squashed by tanh; Haarnoja et al. (2018), appendix C."""

import math

import numpy as np

from optimize.agents.compiled.kernels import kernel
from optimize.agents.compiled.layers import Matrix, Vector

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0  # of SB3's Actor
SQUASH_FLOOR = 1e-6  # of SB3's SquashedDiagGaussianDistribution, lest a log is infinite


@kernel
def squash(output: Matrix, noise: Matrix, action: Matrix, log_prob: Vector) -> None:
    """Write actions (B, A) and log densities (B,) of outputs (2A, B), means before log deviations.

    a = tanh(u), u = mean + std e with the noise e (B, A); log p(a) = log p(u) - log(1 - a^2).
    """
    count, size = noise.shape
    for sample in range(count):
        total = 0.0
        for asset in range(size):
            log_std = min(max(float(output[size + asset, sample]), LOWEST_LOG_STD), HIGHEST_LOG_STD)
            away = float(noise[sample, asset])
            squashed = np.float32(math.tanh(output[asset, sample] + math.exp(log_std) * away))
            action[sample, asset] = squashed
            room = 1.0 - float(squashed) * float(squashed)
            total -= 0.5 * away * away + log_std + _LOG_ROOT_2_PI + math.log(room + SQUASH_FLOOR)
        log_prob[sample] = total


@kernel
def squash_gradient(
    output: Matrix, noise: Matrix, action: Matrix, weight: float, slope: Matrix, by_output: Matrix
) -> None:
    """Write the gradient by the outputs of the sum of weight * log p, and of what has that slope (A, B) by a.

    The noise is fixed, so that of log p by u is only 2 a (1 - a^2) / (1 - a^2 + floor), by log std -1 more.
    """
    count, size = noise.shape
    for asset in range(size):
        for sample in range(count):
            squashed = float(action[sample, asset])
            room = 1.0 - squashed * squashed
            by_drawn = (weight * 2.0 * squashed / (room + SQUASH_FLOOR) + slope[asset, sample]) * room
            by_output[asset, sample] = by_drawn
            log_std = float(output[size + asset, sample])
            moved = by_drawn * math.exp(log_std) * noise[sample, asset] - weight
            held = log_std < LOWEST_LOG_STD or log_std > HIGHEST_LOG_STD
            by_output[size + asset, sample] = 0.0 if held else moved
