"""One update of twin delayed deterministic policy gradient; Fujimoto et al. (2018), algorithm 1."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.agents.compiled.kernels import inner_kernel, kernel
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

ACTOR, CRITIC, ACTED = range(3)  # columns of the losses; ACTED is 1 where the actor learned too
KINDS = 1  # of noise: that of the target actions


class Settings(NamedTuple):
    """The settings of the losses."""

    gamma: float
    n_steps: int
    tau: float
    policy_delay: int


class Td3(NamedTuple):
    """An actor and its critics, each with slow targets, and room to work."""

    actor: Nets  # its outputs (A, B) are actions before tanh
    learned: Learned
    actor_target: Vector
    values: Values
    deltas: Values
    critics: Critics
    judge: Nets  # the first critic alone, which the actor learns from
    judge_values: Values
    judge_deltas: Values
    batch: Batch
    action: Matrix  # (B, A)
    target: Vector  # (B,)
    slope: Vector  # A * B
    updates: IntArray  # (1,) made so far
    settings: Settings


@kernel
def squash_means(output: Matrix, action: Matrix, count: int) -> None:
    """Write the actions (B, A) of outputs (A, B)."""
    for sample in range(count):
        for asset in range(action.shape[1]):
            action[sample, asset] = np.float32(math.tanh(output[asset, sample]))


@inner_kernel
def fit_actor(td3: Td3, count: int, learning_rate: float) -> float:
    """Take a step of the actor along the gradient of -mean(Q of the first critic); return that mean."""
    batch, learned, critic = td3.batch, td3.learned, td3.critics.learned.parameters
    forward(td3.actor, learned.parameters, batch.state, td3.values, count)
    squash_means(outputs(td3.actor, td3.values, 0, count), td3.action, count)
    put_actions(batch.with_action, td3.action, count)
    forward(td3.judge, critic, batch.with_action, td3.judge_values, count)
    value = outputs(td3.judge, td3.judge_values, 0, count)
    by_value = outputs(td3.judge, td3.judge_deltas, 0, count)
    loss = 0.0
    for sample in range(count):
        loss -= value[0, sample]
        by_value[0, sample] = -1.0 / count
    size, inputs = td3.action.shape[1], td3.actor.stem.inputs
    slope = block(td3.slope, 0, size, count)
    slope_by_input(td3.judge, critic, td3.judge_values, td3.judge_deltas, inputs, slope, count)
    delta = outputs(td3.actor, td3.deltas, 0, count)
    for asset in range(size):
        for sample in range(count):
            action = td3.action[sample, asset]
            delta[asset, sample] = slope[asset, sample] * (np.float32(1) - action * action)
    backward(td3.actor, learned.parameters, learned.gradient, batch.state, td3.values, td3.deltas, count)
    descend(learned, learning_rate, NO_LIMIT)
    return loss / count


@inner_kernel
def update_td3(
    td3: Td3,
    features: NDArray[np.float32],
    replay: Replay,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make one update from these transitions (B,), and note its losses; noise is (1, B, A), clipped."""
    count = len(slots)
    batch, settings, critics = td3.batch, td3.settings, td3.critics
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    forward(td3.actor, td3.actor_target, batch.next_state, td3.values, count)
    squash_means(outputs(td3.actor, td3.values, 0, count), td3.action, count)
    for sample in range(count):
        for asset in range(td3.action.shape[1]):
            moved = td3.action[sample, asset] + noise[0, sample, asset]
            td3.action[sample, asset] = min(max(moved, np.float32(-1)), np.float32(1))
    join(batch.next_state, batch.next_with_action, td3.action, count)
    target = td3.target[:count]
    lower_values(critics, critics.target, batch.next_with_action, target)
    for sample in range(count):
        target[sample] = batch.reward[sample] + batch.discount[sample] * target[sample]
    join(batch.state, batch.with_action, batch.action, count)
    losses[CRITIC] = fit_critics(critics, batch.with_action, target, 1.0, learning_rate)
    td3.updates[0] += 1
    if td3.updates[0] % settings.policy_delay == 0:
        losses[ACTED] = 1.0
        losses[ACTOR] = fit_actor(td3, count, learning_rate)
        blend(critics.target, critics.learned.parameters, settings.tau)
        blend(td3.actor_target, td3.learned.parameters, settings.tau)


@inner_kernel
def act_td3(
    td3: Td3,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Write the actions (N, A) of the policy in observations N * D, or take the noise for them."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward(td3.actor, td3.learned.parameters, observation, td3.values, count)
        squash_means(outputs(td3.actor, td3.values, 0, count), action, count)
    to_range(action, lowest, target)


@inner_kernel
def follow_td3(td3: Td3) -> None:
    """Do nothing: the targets follow in the updates."""


TD3_RULES = Rules("td3", update_td3, act_td3, follow_td3)
