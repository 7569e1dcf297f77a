"""One update of soft actor-critic; Haarnoja et al. (2018), with a learned temperature."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.agents.compiled.kernels import inner_kernel
from optimize.agents.compiled.layers import Matrix, Vector, block
from optimize.agents.compiled.off_policy_loop import Rules
from optimize.agents.compiled.perceptrons import Nets, Values, backward, forward, outputs, slope_by_input
from optimize.agents.compiled.q_critic import (
    NO_LIMIT,
    Critics,
    Learned,
    blend,
    descend,
    fit_critics,
    lower_values,
    to_range,
)
from optimize.agents.compiled.replay import Batch, Replay, gather_batch, join, put_actions
from optimize.agents.compiled.squashed_gaussian import squash, squash_gradient

ACTOR, CRITIC, TEMPERATURE, TEMPERATURE_LOSS = range(4)  # columns of the losses
KINDS = 2  # of noise: of the actions in the state, and of those in the next


class Settings(NamedTuple):
    """The settings of the losses."""

    gamma: float
    n_steps: int
    tau: float
    target_update_interval: int  # in updates since the last rollout
    target_entropy: float
    temperature: float  # alpha where it is not learned, else negative


class Sac(NamedTuple):
    """An actor, its critics and the temperature, and room to work."""

    actor: Nets  # its outputs (2A, B) are the means and the log deviations
    learned: Learned
    values: Values
    deltas: Values
    critics: Critics
    temperature: Learned  # log alpha (1,)
    batch: Batch
    action: Matrix  # (B, A) of the actor in the state
    next_action: Matrix
    log_prob: Vector  # (B,)
    next_log_prob: Vector
    target: Vector
    slope: Vector  # A * B
    settings: Settings


@inner_kernel
def learn_temperature(sac: Sac, log_prob: Vector, learning_rate: float, losses: FloatArray) -> float:
    """Take a step of alpha towards the target entropy; return what alpha was.

    L = -log alpha * mean(log p + target entropy).
    """
    alpha = sac.settings.temperature
    if alpha < 0.0:
        learned = sac.temperature
        alpha = math.exp(learned.parameters[0])
        total = 0.0
        for sample in range(len(log_prob)):
            total += log_prob[sample] + sac.settings.target_entropy
        learned.gradient[0] = -total / len(log_prob)
        losses[TEMPERATURE_LOSS] = learned.parameters[0] * learned.gradient[0]
        descend(learned, learning_rate, NO_LIMIT)
    losses[TEMPERATURE] = alpha
    return alpha


@inner_kernel
def fit_actor(sac: Sac, noise: Matrix, alpha: float, learning_rate: float) -> float:
    """Take a step of the actor along the gradient of mean(alpha log p - min Q), whose value is returned.

    The critics' weights get no gradient.
    """
    count, size = noise.shape
    batch, critics = sac.batch, sac.critics
    put_actions(batch.with_action, sac.action, count)
    forward(critics.nets, critics.learned.parameters, batch.with_action, critics.values, count)
    one, two = (
        outputs(critics.nets, critics.values, 0, count),
        outputs(critics.nets, critics.values, 1, count),
    )
    by_one, by_two = (
        outputs(critics.nets, critics.deltas, 0, count),
        outputs(critics.nets, critics.deltas, 1, count),
    )
    loss = 0.0
    for sample in range(count):
        first = one[0, sample] <= two[0, sample]
        loss += alpha * sac.log_prob[sample] - (one[0, sample] if first else two[0, sample])
        by_one[0, sample] = -1.0 / count if first else 0.0
        by_two[0, sample] = 0.0 if first else -1.0 / count
    slope = block(sac.slope, 0, size, count)
    inputs = sac.actor.stem.inputs
    slope_by_input(
        critics.nets, critics.learned.parameters, critics.values, critics.deltas, inputs, slope, count
    )
    output, delta = outputs(sac.actor, sac.values, 0, count), outputs(sac.actor, sac.deltas, 0, count)
    squash_gradient(output, noise, sac.action, alpha / count, slope, delta)
    learned = sac.learned
    backward(sac.actor, learned.parameters, learned.gradient, batch.state, sac.values, sac.deltas, count)
    descend(learned, learning_rate, NO_LIMIT)
    return float(loss / count)


@inner_kernel
def update_sac(
    sac: Sac,
    features: NDArray[np.float32],
    replay: Replay,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make the update of that number since the last rollout, from these transitions; note its losses.

    slots and rows are (B,), noise is (2, B, A).
    """
    count = len(slots)
    batch, settings, critics = sac.batch, sac.settings, sac.critics
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    log_prob, next_log_prob = sac.log_prob[:count], sac.next_log_prob[:count]
    parameters = sac.learned.parameters
    forward(sac.actor, parameters, batch.next_state, sac.values, count)
    squash(outputs(sac.actor, sac.values, 0, count), noise[1], sac.next_action, next_log_prob)
    forward(sac.actor, parameters, batch.state, sac.values, count)
    squash(outputs(sac.actor, sac.values, 0, count), noise[0], sac.action, log_prob)
    alpha = learn_temperature(sac, log_prob, learning_rate, losses)
    join(batch.next_state, batch.next_with_action, sac.next_action, count)
    target = sac.target[:count]
    lower_values(critics, critics.target, batch.next_with_action, target)
    for sample in range(count):
        following = target[sample] - alpha * next_log_prob[sample]
        target[sample] = batch.reward[sample] + batch.discount[sample] * following
    join(batch.state, batch.with_action, batch.action, count)
    losses[CRITIC] = fit_critics(critics, batch.with_action, target, 0.5, learning_rate)
    losses[ACTOR] = fit_actor(sac, noise[0], alpha, learning_rate)
    if number % settings.target_update_interval == 0:
        blend(critics.target, critics.learned.parameters, settings.tau)


@inner_kernel
def act_sac(
    sac: Sac,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Draw actions (N, A) of the policy in observations N * D, or take the noise for them."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward(sac.actor, sac.learned.parameters, observation, sac.values, count)
        squash(outputs(sac.actor, sac.values, 0, count), noise, action, sac.log_prob)
    to_range(action, lowest, target)


@inner_kernel
def follow_sac(sac: Sac) -> None:
    """Do nothing: the target critics follow in the updates."""


SAC_RULES = Rules("sac", update_sac, act_sac, follow_sac)
