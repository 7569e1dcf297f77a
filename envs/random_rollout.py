"""Compiled random policies: many accounts that draw their targets, each from a stream of its own.

A stream is one 64-bit counter (SplitMix64: Steele, Lea & Flood 2014), so that a row draws the same numbers in
any batch, and a rollout needs no recorded trajectory.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.env_state import EnvState
from envs.ledger import step_row
from envs.outcomes import BAD_EQUITY, COMPLETED, RUINED
from envs.types import FloatArray, IntArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11))
_UNIT = 2.0**-53


class RandomPaths(NamedTuple):
    """Results of N random accounts: equity at the end of each session, and totals."""

    equity: FloatArray  # (N, S) of the sessions of one span, NaN where a session has no bar
    turnover: FloatArray  # (N,) traded notional over equity, summed over bars
    outcome: IntArray  # (N,)


class RandomBuffers(NamedTuple):
    """Buffers of the current step; rows are rolled out one after another."""

    action: FloatArray  # (A,) as sent
    target: FloatArray  # (A,)


@compiled
def draw_uniform(streams: NDArray[np.uint64], row: int) -> float:
    """Return the next number in [0, 1) of a row's stream."""
    streams[row] += _STEP
    mixed = streams[row]
    mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
    mixed = mixed ^ (mixed >> _SHIFTS[2])
    return float(mixed >> _SHIFTS[3]) * _UNIT


@compiled
def draw_action(
    streams: NDArray[np.uint64], row: int, turnover: float, discrete: bool, lowest: float, action: FloatArray
) -> None:
    """Replace a row's action (A,) by a uniform one with a probability of `turnover`, else keep it."""
    if draw_uniform(streams, row) >= turnover:
        return
    for asset in range(len(action)):
        uniform = draw_uniform(streams, row)
        if discrete:
            action[asset] = np.floor(uniform * (2.0 - lowest))  # choices 0, 1 and, with short positions, 2
        else:
            action[asset] = np.float64(np.float32(lowest + uniform * (1.0 - lowest)))  # as an agent's


@compiled
def draw_actions(
    streams: NDArray[np.uint64], turnover: float, discrete: bool, lowest: float, actions: FloatArray
) -> None:
    """Write the actions (N, K, A) of K steps; the array holds flat ones before."""
    for row in range(actions.shape[0]):
        for step in range(actions.shape[1]):
            if step > 0:
                for asset in range(actions.shape[2]):
                    actions[row, step, asset] = actions[row, step - 1, asset]
            draw_action(streams, row, turnover, discrete, lowest, actions[row, step])


@compiled
def rollout_random(
    streams: NDArray[np.uint64],
    turnover: float,
    flat: float,
    env: EnvState,
    session: IntArray,
    first_session: int,
    buffers: RandomBuffers,
    paths: RandomPaths,
) -> None:
    """Roll out every row to its last bar or to ruin; session (T,) is the ordinal of each bar."""
    discrete = env.rules.discrete
    for row in range(len(env.bar)):
        outcome = COMPLETED
        for asset in range(len(buffers.action)):
            buffers.action[asset] = flat
        for _ in range(env.last[row] - env.bar[row]):
            draw_action(streams, row, turnover, discrete, env.lowest, buffers.action)
            for asset in range(len(buffers.action)):
                sent = buffers.action[asset]
                buffers.target[asset] = sent + env.lowest if discrete else sent
            status = step_row(
                row, env.bar, env.last, buffers.target, env.bars, env.rates, env.rules, env.account, env.fill
            )
            if status == BAD_EQUITY:
                outcome = BAD_EQUITY
                break
            paths.turnover[row] += env.fill.turnover[row]
            paths.equity[row, session[env.bar[row]] - first_session] = env.account.equity[row]
            if status == RUINED:
                outcome = RUINED
                break
        paths.outcome[row] = outcome
