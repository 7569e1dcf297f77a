"""The policy of continuous actions: independent normal distributions with a learned deviation each."""

import math

from envs.types import IntArray
from optimize.agents.compiled.kernels import kernel
from optimize.agents.compiled.layers import Matrix, Vector

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
