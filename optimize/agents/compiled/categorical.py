"""The policy of discrete actions: one choice, by logits."""

import math

import numpy as np

from envs.types import IntArray
from optimize.agents.compiled.kernels import kernel
from optimize.agents.compiled.layers import Matrix, Vector


@kernel
def normalise(logits: Matrix, column: int) -> None:
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
def entropy_of(log_probs: Matrix, column: int) -> float:
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
        normalise(logits, column)
        log_prob[column] = logits[int(action[chosen[column], 0]), column]
        entropy += entropy_of(logits, column)
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
        entropy = entropy_of(log_probs, column)
        for choice in range(log_probs.shape[0]):
            share = math.exp(log_probs[choice, column])
            slope = -by_log_prob[column] * share - by_each * share * (log_probs[choice, column] + entropy)
            by_logits[choice, column] = slope + (by_log_prob[column] if choice == taken else 0.0)
