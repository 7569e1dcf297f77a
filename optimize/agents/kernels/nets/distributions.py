"""Action distributions of SB3's policies: categorical, diagonal Gaussian, and Gaussian squashed by tanh."""

import math

import numpy as np

from envs.types import IntArray
from optimize.agents.kernels.bindings import kernel
from optimize.agents.kernels.nets.layers import Matrix, Vector


@kernel
def log_softmax(logits: Matrix, column: int) -> None:
    """Turn the logits of one column into log probabilities, in place."""
    highest = logits[0, column]
    for choice in range(1, logits.shape[0]):
        highest = max(highest, logits[choice, column])
    total = 0.0
    for choice in range(logits.shape[0]):
        total += math.exp(logits[choice, column] - highest)
    shift = np.float32(highest + math.log(total))
    for choice in range(logits.shape[0]):
        logits[choice, column] -= shift


@kernel
def column_entropy(log_probs: Matrix, column: int) -> float:
    """Return -sum p log p of one column."""
    entropy = 0.0
    for choice in range(log_probs.shape[0]):
        entropy -= math.exp(log_probs[choice, column]) * log_probs[choice, column]
    return entropy


@kernel
def categorical_log_probs(logits: Matrix, action: Matrix, chosen: IntArray, log_prob: Vector) -> float:
    """Write the log probability of the chosen actions (B,) of action (Q, 1); return the mean entropy.

    logits (choices, B) become log probabilities.
    """
    entropy = 0.0
    for column in range(len(chosen)):
        log_softmax(logits, column)
        log_prob[column] = logits[int(action[chosen[column], 0]), column]
        entropy += column_entropy(logits, column)
    return entropy / len(chosen)


@kernel
def categorical_gradient(
    log_probs: Matrix,
    action: Matrix,
    chosen: IntArray,
    by_log_prob: Vector,
    by_entropy: float,
    by_logits: Matrix,
) -> None:
    """Write the gradient by the logits (choices, B) from those by log_prob (B,) and by the mean entropy.

    d log p_a / d z_i = [i = a] - p_i, d H / d z_i = -p_i (log p_i + H).
    """
    by_each = by_entropy / len(chosen)
    for column in range(len(chosen)):
        taken = int(action[chosen[column], 0])
        entropy = column_entropy(log_probs, column)
        for choice in range(log_probs.shape[0]):
            share = math.exp(log_probs[choice, column])
            slope = -by_log_prob[column] * share - by_each * share * (log_probs[choice, column] + entropy)
            by_logits[choice, column] = slope + (by_log_prob[column] if choice == taken else 0.0)


_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)


@kernel
def gaussian_log_probs(
    mean: Matrix, log_std: Vector, action: Matrix, chosen: IntArray, log_prob: Vector
) -> float:
    """Write the log density of the chosen actions (B,) of action (Q, A); return the mean entropy.

    mean is (A, B). The entropy of a normal distribution is 1/2 + log(sqrt(2 pi)) + log std.
    """
    entropy = 0.0
    for asset in range(mean.shape[0]):
        deviation = math.exp(-log_std[asset])
        constant = log_std[asset] + _LOG_ROOT_2_PI
        entropy += 0.5 + constant
        for column in range(len(chosen)):
            away = (action[chosen[column], asset] - mean[asset, column]) * deviation
            given = 0.0 if asset == 0 else log_prob[column]
            log_prob[column] = given - 0.5 * away * away - constant
    return entropy


@kernel
def gaussian_gradient(
    mean: Matrix,
    log_std: Vector,
    action: Matrix,
    chosen: IntArray,
    by_log_prob: Vector,
    by_entropy: float,
    by_mean: Matrix,
    by_log_std: Vector,
) -> None:
    """Write the gradients by mean (A, B) and log_std (A,) from those by log_prob (B,) and mean entropy.

    d log p / d mean = (x - mean) / std^2, d log p / d log std = ((x - mean) / std)^2 - 1.
    """
    for asset in range(mean.shape[0]):
        deviation = math.exp(-log_std[asset])
        total = by_entropy
        for column in range(len(chosen)):
            away = (action[chosen[column], asset] - mean[asset, column]) * deviation
            by_mean[asset, column] = by_log_prob[column] * away * deviation
            total += by_log_prob[column] * (away * away - 1.0)
        by_log_std[asset] = total


_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0  # of SB3's Actor
SQUASH_FLOOR = 1e-6  # of SB3's SquashedDiagGaussianDistribution, lest a log is infinite


@kernel
def sample_squashed(output: Matrix, noise: Matrix, action: Matrix, log_prob: Vector) -> None:
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
    """Write the gradient by the outputs of weight * sum(log p) plus a term of gradient slope (A, B) by a.

    With fixed noise, d log p / d u = 2 a (1 - a^2) / (1 - a^2 + floor), and d log std adds -1.
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
