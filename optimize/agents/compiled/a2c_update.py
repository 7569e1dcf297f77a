"""The gradient of advantage actor-critic over a whole rollout; Mnih et al. (2016), algorithm S3."""

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
from optimize.agents.compiled.kernels import counting_kernel
from optimize.agents.compiled.layers import Vector
from optimize.agents.compiled.ppo_update import ENTROPY, POLICY, VALUE, value_loss

NO_CLIP = float("inf")


@counting_kernel
def find_gradient(
    network: Network,
    parameters: Vector,
    gradient: Vector,
    features: NDArray[np.float32],
    samples: Samples,
    order: IntArray,
    work: Workspace,
    vf_coef: float,
    ent_coef: float,
    normalise: bool,
    losses: FloatArray,
) -> None:
    """Write the gradient of -mean(A log p) - ent_coef mean(H) + vf_coef mean((V - R)^2), and the losses."""
    count = len(order)
    forward(network, parameters, features, samples, order, work)
    losses[ENTROPY] = -score_actions(network, parameters, samples, order, work)
    mean, deviation = advantage_moments(samples.advantage, order, normalise)
    loss = 0.0
    for row in range(count):
        advantage = (samples.advantage[order[row]] - mean) / deviation
        loss -= advantage * work.log_prob[row]
        work.by_log_prob[row] = -advantage / count
    losses[POLICY] = loss / count
    losses[VALUE] = value_loss(network, samples, order, work, vf_coef, NO_CLIP)
    backward(network, parameters, gradient, samples, order, work, -ent_coef)
