"""Replay of bar indices and accounts; feature windows are gathered on use.

A transition of one asset takes 38 bytes at any lookback. Samples, n-step ones included, equal those of SB3's
ReplayBuffer and NStepReplayBuffer.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.observations import write_feature_window
from envs.types import IntArray
from optimize.agents.kernels.bindings import inner_kernel, kernel
from optimize.agents.kernels.nets.layers import Matrix, Vector, matrix_view

CONTINUED, TERMINATED, TRUNCATED = 0, 1, 2  # end of the episode after a transition


class ReplayArrays(NamedTuple):
    """Transitions of N environments in C slots, overwritten in turn; the next state is that of bar + 1."""

    bar: NDArray[np.int32]  # (C, N)
    account: NDArray[np.float32]  # (C, N, S) account part of the observations
    following: NDArray[np.float32]  # (C, N, S) account part after the step, before a reset
    action: NDArray[np.float32]  # (C, N, A) between -1 and 1, or the choice (C, N, 1)
    reward: NDArray[np.float32]  # (C, N)
    ended: NDArray[np.uint8]  # (C, N)
    place: IntArray  # (2,) the slot to write next, and how many are filled


class TransitionBatch(NamedTuple):
    """Sampled transitions, flat; with_action appends an action to each observation."""

    state: Vector  # B * D
    with_action: Vector  # B * (D + A), or none
    next_state: Vector
    next_with_action: Vector
    action: Matrix  # (B, A)
    reward: Vector  # (B,) discounted and summed over n steps
    discount: Vector  # (B,) of the value of the next state, 0 where the episode had terminated


def make_replay(capacity: int, n_envs: int, account_size: int, action_size: int) -> ReplayArrays:
    """Return arrays for `capacity` transitions of all environments together; S = account_size."""
    slots = max(capacity // n_envs, 1)
    return ReplayArrays(
        np.zeros((slots, n_envs), np.int32),
        np.zeros((slots, n_envs, account_size), np.float32),
        np.zeros((slots, n_envs, account_size), np.float32),
        np.zeros((slots, n_envs, action_size), np.float32),
        np.zeros((slots, n_envs), np.float32),
        np.zeros((slots, n_envs), np.uint8),
        np.zeros(2, np.int64),
    )


def make_batch(size: int, observation: int, action_size: int, with_action: bool) -> TransitionBatch:
    """Return arrays for a batch of up to this size; D = observation."""
    together = size * (observation + action_size) if with_action else 0
    lengths = (size * observation, together) * 2
    state, joined, next_state, next_joined = (np.zeros(length, np.float32) for length in lengths)
    action = np.zeros((size, action_size), np.float32)
    reward, discount = np.zeros((2, size), np.float32)
    return TransitionBatch(state, joined, next_state, next_joined, action, reward, discount)


@kernel
def advance_slot(replay: ReplayArrays) -> None:
    """Advance to the next slot after one was written."""
    slots = replay.bar.shape[0]
    replay.place[0] = (replay.place[0] + 1) % slots
    replay.place[1] = min(replay.place[1] + 1, slots)


@kernel
def n_step_return(
    replay: ReplayArrays, slot: int, row: int, n_steps: int, gamma: float
) -> tuple[int, float, float]:
    """Return the slot of the last of n steps, the discounted rewards, and the discount of the next value.

    The sum ends early at the end of the episode and at the newest transition.
    """
    slots = replay.bar.shape[0]
    newest = (replay.place[0] - 1) % slots
    total, discount = 0.0, 1.0
    for step in range(n_steps):
        total += discount * replay.reward[slot, row]
        discount *= gamma
        if replay.ended[slot, row] != CONTINUED or slot == newest or step == n_steps - 1:
            break
        slot = (slot + 1) % slots
    if replay.ended[slot, row] == TERMINATED:
        discount = 0.0
    return slot, total, discount


@kernel
def write_observation(
    features: NDArray[np.float32], bar: int, account: Vector, window: int, observation: Vector
) -> None:
    """Write the observation (D,) of a bar and an account."""
    write_feature_window(features, bar, window, observation)
    for index in range(len(account)):
        observation[window + index] = account[index]


@inner_kernel
def gather_batch(
    replay: ReplayArrays,
    features: NDArray[np.float32],
    slots: IntArray,
    rows: IntArray,
    n_steps: int,
    gamma: float,
    batch: TransitionBatch,
) -> None:
    """Write the transitions that start in these slots (B,) of these rows (B,)."""
    count = len(slots)
    account_size = replay.account.shape[2]
    size = batch.state.size // len(batch.reward)
    state = matrix_view(batch.state, 0, count, size)
    next_state = matrix_view(batch.next_state, 0, count, size)
    for sample in range(count):
        slot, row = slots[sample], rows[sample]
        window = size - account_size
        write_observation(features, replay.bar[slot, row], replay.account[slot, row], window, state[sample])
        for index in range(replay.action.shape[2]):
            batch.action[sample, index] = replay.action[slot, row, index]
        last, reward, discount = n_step_return(replay, slot, row, n_steps, gamma)
        batch.reward[sample], batch.discount[sample] = reward, discount
        write_observation(
            features, replay.bar[last, row] + 1, replay.following[last, row], window, next_state[sample]
        )


@inner_kernel
def join_actions(state: Vector, with_action: Vector, action: Matrix, count: int) -> None:
    """Write each observation followed by its action (B, A)."""
    size = state.size // action.shape[0]
    width = size + action.shape[1]
    shown, joined = matrix_view(state, 0, count, size), matrix_view(with_action, 0, count, width)
    for sample in range(count):
        source, target = shown[sample], joined[sample]
        for index in range(size):
            target[index] = source[index]
        for index in range(action.shape[1]):
            target[size + index] = action[sample, index]


@inner_kernel
def replace_actions(with_action: Vector, action: Matrix, count: int) -> None:
    """Replace the actions (B, A) at the ends of the joined observations."""
    width = with_action.size // action.shape[0]
    joined = matrix_view(with_action, 0, count, width)
    size = width - action.shape[1]
    for sample in range(count):
        for index in range(action.shape[1]):
            joined[sample, size + index] = action[sample, index]
