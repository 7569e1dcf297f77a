"""One update of a deep Q-network; Mnih et al. (2015), algorithm 1, with the loss of Huber (1964)."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.agents.compiled.kernels import inner_kernel, kernel
from optimize.agents.compiled.layers import Matrix, Vector
from optimize.agents.compiled.off_policy_loop import Rules
from optimize.agents.compiled.perceptrons import Nets, Values, backward, forward, outputs
from optimize.agents.compiled.q_critic import Learned, blend, descend
from optimize.agents.compiled.replay import Batch, Replay, gather_batch

LOSS = 0  # column of the losses
KINDS = 0  # of noise: none


class Settings(NamedTuple):
    """The settings of the loss and of the target network."""

    gamma: float
    n_steps: int
    tau: float
    target_update_interval: int  # in steps of all environments
    max_grad_norm: float


class Dqn(NamedTuple):
    """The network of values, its target, and room to work."""

    nets: Nets  # its outputs (choices, B) are values
    learned: Learned
    target: Vector
    values: Values
    deltas: Values
    batch: Batch
    wanted: Vector  # (B,) target values
    calls: IntArray  # (1,) steps of all environments so far
    settings: Settings


@kernel
def best_choice(values: Matrix, column: int) -> int:
    """Return the first choice of highest value in a column, -1 where a value is not finite."""
    best = 0
    for choice in range(values.shape[0]):
        if not math.isfinite(values[choice, column]):
            return -1
        if values[choice, column] > values[best, column]:
            best = choice
    return best


@inner_kernel
def update_dqn(
    dqn: Dqn,
    features: NDArray[np.float32],
    replay: Replay,
    slots: IntArray,
    rows: IntArray,
    noise: NDArray[np.float32],
    number: int,
    learning_rate: float,
    losses: FloatArray,
) -> None:
    """Make one update from these transitions (B,), and note its loss."""
    count = len(slots)
    nets, learned, batch, settings = dqn.nets, dqn.learned, dqn.batch, dqn.settings
    gather_batch(replay, features, slots, rows, settings.n_steps, settings.gamma, batch)
    forward(nets, dqn.target, batch.next_state, dqn.values, count)
    following = outputs(nets, dqn.values, 0, count)
    for sample in range(count):
        best = following[0, sample]
        for choice in range(1, following.shape[0]):
            best = max(best, following[choice, sample])
        dqn.wanted[sample] = batch.reward[sample] + batch.discount[sample] * best
    forward(nets, learned.parameters, batch.state, dqn.values, count)
    value, delta = outputs(nets, dqn.values, 0, count), outputs(nets, dqn.deltas, 0, count)
    delta[...] = np.float32(0)
    loss = 0.0
    for sample in range(count):
        taken = int(batch.action[sample, 0])
        error = float(value[taken, sample] - dqn.wanted[sample])
        loss += 0.5 * error * error if abs(error) < 1.0 else abs(error) - 0.5
        delta[taken, sample] = min(max(error, -1.0), 1.0) / count
    losses[LOSS] = loss / count
    backward(nets, learned.parameters, learned.gradient, batch.state, dqn.values, dqn.deltas, count)
    descend(learned, learning_rate, settings.max_grad_norm)


@inner_kernel
def act_dqn(
    dqn: Dqn,
    observation: Vector,
    at_random: bool,
    noise: Matrix,
    lowest: float,
    action: Matrix,
    target: FloatArray,
) -> None:
    """Write the choices (N, 1) of highest value in observations N * D, or take the noise for them."""
    count = len(action)
    if at_random:
        action[...] = noise
    else:
        forward(dqn.nets, dqn.learned.parameters, observation, dqn.values, count)
        values = outputs(dqn.nets, dqn.values, 0, count)
        for row in range(count):
            action[row, 0] = best_choice(values, row)
    for row in range(count):
        target[row, 0] = action[row, 0] + lowest  # of no choice it is one that the environment refuses


@inner_kernel
def follow_dqn(dqn: Dqn) -> None:
    """Let the target network follow where its interval is over."""
    dqn.calls[0] += 1
    if dqn.calls[0] % dqn.settings.target_update_interval == 0:
        blend(dqn.target, dqn.learned.parameters, dqn.settings.tau)


DQN_RULES = Rules("dqn", update_dqn, act_dqn, follow_dqn)
