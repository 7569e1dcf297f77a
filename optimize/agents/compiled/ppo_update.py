"""One epoch of proximal policy optimisation over a rollout; Schulman et al. (2017), equations 7 and 9."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.agents.compiled.actor_critic import (
    Network,
    Samples,
    Workspace,
    advantage_moments,
    backward,
    forward,
    score_actions,
)
from optimize.agents.compiled.kernels import counting_kernel, kernel
from optimize.agents.compiled.layers import Vector, output_of
from optimize.agents.compiled.optimizers import Adam, clip_scale, step_adam

ENTROPY, POLICY, VALUE, CLIPPED, DIVERGENCE, TOTAL = range(6)  # columns of the losses


class Objective(NamedTuple):
    """The settings of the loss."""

    clip_range: float
    clip_range_vf: float  # infinite: none
    vf_coef: float
    ent_coef: float
    max_grad_norm: float
    target_kl: float  # infinite: none
    normalise: bool  # the advantages of each batch


@kernel
def clipped_surrogate(
    samples: Samples, chosen: IntArray, work: Workspace, objective: Objective, losses: FloatArray
) -> None:
    """Write the gradient by each log probability; put the loss, the share clipped and the KL in losses.

    L = -mean(min(r A, clip(r) A)), r = p / p_old; the KL is estimated as mean((r - 1) - log r).
    """
    count = len(chosen)
    mean, deviation = advantage_moments(samples.advantage, chosen, objective.normalise)
    lowest, highest = 1.0 - objective.clip_range, 1.0 + objective.clip_range
    loss, clipped, divergence = 0.0, 0, 0.0
    for row in range(count):
        sample = chosen[row]
        log_ratio = float(work.log_prob[row] - samples.log_prob[sample])
        ratio = math.exp(log_ratio)
        advantage = (samples.advantage[sample] - mean) / deviation
        free, held = advantage * ratio, advantage * min(max(ratio, lowest), highest)
        binds = held < free
        loss -= held if binds else free
        clipped += abs(ratio - 1.0) > objective.clip_range
        divergence += (ratio - 1.0) - log_ratio
        work.by_log_prob[row] = 0.0 if binds else -free / count
    losses[POLICY] = loss / count
    losses[CLIPPED] = clipped / count
    losses[DIVERGENCE] = divergence / count


@counting_kernel
def value_loss(
    network: Network, samples: Samples, chosen: IntArray, work: Workspace, vf_coef: float, clip: float
) -> float:
    """Write the gradient by each value and return the mean square error, not yet times vf_coef.

    A value counts only within `clip` of the value that the rollout had.
    """
    batch = len(chosen)
    values = output_of(network.critic, work.critic, batch)
    delta = output_of(network.critic, work.critic_delta, batch)
    loss = 0.0
    for row in range(batch):
        sample = chosen[row]
        moved = values[0, row] - samples.value[sample]
        error = samples.value[sample] + min(max(moved, -clip), clip) - samples.target[sample]
        if abs(moved) <= clip:
            error = values[0, row] - samples.target[sample]
        loss += error * error
        delta[0, row] = 0.0 if abs(moved) > clip else 2.0 * vf_coef * error / batch
    return loss / batch


@counting_kernel
def run_epoch(
    network: Network,
    parameters: Vector,
    gradient: Vector,
    adam: Adam,
    step: int,
    features: NDArray[np.float32],
    samples: Samples,
    order: IntArray,
    work: Workspace,
    objective: Objective,
    losses: FloatArray,
) -> tuple[int, bool]:
    """Take one step for each batch of the samples in this order, the first of them after `step` others.

    Return the batches whose losses (batches, 6) were written, and whether the last of them only showed that
    the policy had moved beyond 1.5 target_kl, so that no step was taken on it.
    """
    size = len(work.log_prob)
    batch = 0
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        loss = losses[batch]
        forward(network, parameters, features, samples, chosen, work)
        loss[ENTROPY] = -score_actions(network, parameters, samples, chosen, work)
        clipped_surrogate(samples, chosen, work, objective, loss)
        loss[VALUE] = value_loss(network, samples, chosen, work, objective.vf_coef, objective.clip_range_vf)
        loss[TOTAL] = loss[POLICY] + objective.ent_coef * loss[ENTROPY] + objective.vf_coef * loss[VALUE]
        batch += 1
        if loss[DIVERGENCE] > 1.5 * objective.target_kl:
            return batch, True
        backward(network, parameters, gradient, samples, chosen, work, -objective.ent_coef)
        scale = clip_scale(gradient, objective.max_grad_norm)
        step_adam(parameters, gradient, scale, adam, step + batch)
    return batch, False
