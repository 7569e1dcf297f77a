"""Rollout of accounts over their whole spans in one compiled call.

`rollout_rows` is compiled once for each kind of policy and reward: `bind_kernels` replaces the placeholders
`_write_action` and `_reward`. `replay_actions` needs no network.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.actions import find_bad_action
from envs.compiled import bind_kernels, compiled
from envs.env_state import EnvState
from envs.ledger import step_row
from envs.observations import ObservationLayout, account_layout, write_account
from envs.outcomes import BAD_ACTION, BAD_EQUITY, BAD_OBSERVATION, COMPLETED, RUINED
from envs.rewards import RewardFunction, net_log_return
from envs.trajectory import Trajectory, features_are_finite, record_step
from envs.types import FloatArray

PolicyT = TypeVar("PolicyT")  # the weights of a policy, as its kernel takes them

# policy, row, step, environments, account part of the observation (S,), action (A,) to write
ActionKernel = Callable[[PolicyT, int, int, EnvState, NDArray[np.float32], FloatArray], None]


class StepBuffers(NamedTuple):
    """Buffers of the current step; rows are rolled out one after another."""

    layout: ObservationLayout  # of an observation without its window
    account_row: NDArray[np.float32]  # (S,)
    target: FloatArray  # (1, A)
    previous: FloatArray  # (1,) equity
    reward: FloatArray  # (1,)


def make_step_buffers(env: EnvState) -> StepBuffers:
    """Return buffers for a step of these environments."""
    layout = account_layout(env.layout)
    target = np.zeros((1, env.account.weight.shape[1]))
    return StepBuffers(layout, np.zeros(layout.size, np.float32), target, np.zeros(1), np.zeros(1))


@compiled
def recorded_or_held_action(
    policy: NDArray[np.float32],
    row: int,
    step: int,
    env: EnvState,
    account_row: NDArray[np.float32],
    action: FloatArray,
) -> None:
    """Keep the recorded action if the policy has no weights (A,); else buy each asset that is not held yet.

    Assets already held are ordered at their current weight, so they do not trade.
    """
    for asset in range(len(policy)):  # an observation shows the weights held first
        action[asset] = policy[asset] if account_row[asset] == 0 else account_row[asset]


@compiled
def observe_account(row: int, step: int, env: EnvState, buffers: StepBuffers) -> bool:
    """Write the account part of the observation; return whether it and the feature window are finite."""
    bar = env.bar[row]
    write_account(
        row, bar, env.bars.tradable, buffers.layout, env.account, env.reward_state, buffers.account_row
    )
    for value in buffers.account_row:
        if not math.isfinite(value):
            return False
    lookback = env.layout.weight // env.features.shape[1]
    first = bar if step > 0 else bar - lookback + 1  # earlier bars of the window were checked before
    return features_are_finite(env.features, first, bar)


@compiled
def write_target(row: int, step: int, env: EnvState, actions: FloatArray, target: FloatArray) -> bool:
    """Write the exposure (1, A) that is ordered at a step; return whether the action is valid.

    actions (K, A) are those of all steps. An order that is kept back is ordered `delay` steps later; before
    the first one nothing is held.
    """
    discrete = env.rules.discrete
    if step < env.rules.delay:
        target[0] = 0.0
        return True
    action = actions[step - env.rules.delay]
    for asset in range(len(action)):
        target[0, asset] = action[asset] + env.lowest if discrete else action[asset]
    bar, last = env.bar[row : row + 1], env.last[row : row + 1]
    return find_bad_action(bar, last, target, discrete, env.lowest) < 0


_write_action: ActionKernel[Any] = (
    recorded_or_held_action  # in `rollout_rows`; its compilation puts another in its place
)
_reward: RewardFunction = net_log_return  # as well


def rollout_rows(
    policy: PolicyT, env: EnvState, buffers: StepBuffers, trajectory: Trajectory, first: int, stop: int
) -> None:
    """Roll out rows first, ..., stop - 1, each to its last bar, to ruin or to a value that is not finite."""
    account = env.account
    for row in range(first, stop):
        one = slice(row, row + 1)
        outcome = COMPLETED
        for step in range(env.last[row] - env.bar[row]):
            if not observe_account(row, step, env, buffers):
                outcome = BAD_OBSERVATION
                break
            action = trajectory.action[row, step]
            _write_action(policy, row, step, env, buffers.account_row, action)
            if not write_target(row, step, env, trajectory.action[row], buffers.target):
                outcome = BAD_ACTION
                break
            buffers.previous[0] = account.equity[row]
            target = buffers.target[0]
            status = step_row(
                row, env.bar, env.last, target, env.bars, env.rates, env.rules, account, env.fill
            )
            if status == BAD_EQUITY:
                outcome = BAD_EQUITY
                break
            equity, peak, state = account.equity[one], account.peak[one], env.reward_state[one]
            _reward(buffers.previous, equity, peak, state, env.reward_params, buffers.reward)
            record_step(row, account.equity, account.weight, env.fill, trajectory)
            if status == RUINED:
                outcome = RUINED
                break
        trajectory.outcome[row] = outcome


RolloutKernel = Callable[[PolicyT, EnvState, StepBuffers, Trajectory, int, int], None]

_NO_WEIGHTS = np.zeros(0, np.float32)
_replay_actions: RolloutKernel[NDArray[np.float32]] = compiled(bind_kernels(rollout_rows, "replay_actions"))


def replay_actions(env: EnvState, trajectory: Trajectory, hold: NDArray[np.float32] = _NO_WEIGHTS) -> None:
    """Roll out every row by its recorded actions, or hold the weights (A,) and record the actions.

    The state of the reward is not updated.
    """
    _replay_actions(hold, env, make_step_buffers(env), trajectory, 0, len(env.bar))
