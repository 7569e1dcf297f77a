"""Play accounts from the first bar of their spans to the last in one compiled call.

`play` is compiled once for each kind of policy: the kernels that the names `decide` and `earn` stand for are
put in by whoever compiles it; `play_recorded` is for what needs no network.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.actions import find_refused
from envs.compiled import bind, compiled
from envs.ledger import NOT_FINITE, step_row
from envs.ledger import RUINED as RUIN
from envs.observations import Layout, account_layout, show_account
from envs.recording import BROKEN, PLAYED, RUINED, UNSAID, UNSEEN, Recording, finite_features, record_row
from envs.rewards import RewardFunction, net_log_return
from envs.types import FloatArray
from envs.world import World

# policy, row, step, world, what an observation has beside its window (S,), action (A,) to write as sent
Decide = Callable[[Any, int, int, World, NDArray[np.float32], FloatArray], None]


class Desk(NamedTuple):
    """What the step under way needs; rows are played one after another."""

    beside: Layout  # of an observation without its window
    seen: NDArray[np.float32]  # (S,)
    target: FloatArray  # (1, A)
    previous: FloatArray  # (1,) equity
    reward: FloatArray  # (1,)


def make_desk(world: World) -> Desk:
    """Return room for a step of a world."""
    beside = account_layout(world.layout)
    target = np.zeros((1, world.account.weight.shape[1]))
    return Desk(beside, np.zeros(beside.size, np.float32), target, np.zeros(1), np.zeros(1))


@compiled
def resend_or_hold(
    policy: Any, row: int, step: int, world: World, seen: NDArray[np.float32], action: FloatArray
) -> None:
    """Leave the action that is recorded, of a policy without weights (A,); else order what is not held yet.

    What is held is ordered as it is, so that nothing trades.
    """
    for asset in range(len(policy)):  # an observation shows the weights held first
        action[asset] = policy[asset] if seen[asset] == 0 else seen[asset]


@compiled
def observe(row: int, step: int, world: World, desk: Desk) -> bool:
    """Show what an observation has beside its window; tell whether all of it, window included, is numbers."""
    bar = world.bar[row]
    show_account(row, bar, world.bars.tradable, desk.beside, world.account, world.state, desk.seen)
    for value in desk.seen:
        if not math.isfinite(value):
            return False
    lookback = world.layout.weight // world.features.shape[1]
    first = bar if step > 0 else bar - lookback + 1  # the rest of the window was looked at before
    return finite_features(world.features, first, bar)


@compiled
def order(row: int, world: World, action: FloatArray, target: FloatArray) -> bool:
    """Write the exposure (1, A) that an action (A,) orders; tell whether it can be ordered."""
    discrete = world.rules.discrete
    for asset in range(len(action)):
        target[0, asset] = action[asset] + world.lowest if discrete else action[asset]
    bar, last = world.bar[row : row + 1], world.last[row : row + 1]
    return find_refused(bar, last, target, discrete, world.lowest) < 0


decide: Decide = resend_or_hold  # in `play`; whoever compiles it puts another in its place
earn: RewardFunction = net_log_return  # as well


def play(policy: Any, world: World, desk: Desk, recording: Recording, first: int, stop: int) -> None:
    """Play the rows first, ..., stop - 1, each to its last bar, to ruin, or to a number that is none."""
    account = world.account
    for row in range(first, stop):
        one = slice(row, row + 1)
        outcome = PLAYED
        for step in range(world.last[row] - world.bar[row]):
            if not observe(row, step, world, desk):
                outcome = UNSEEN
                break
            action = recording.action[row, step]
            decide(policy, row, step, world, desk.seen, action)
            if not order(row, world, action, desk.target):
                outcome = UNSAID
                break
            desk.previous[0] = account.equity[row]
            target = desk.target[0]
            status = step_row(
                row, world.bar, world.last, target, world.bars, world.rates, world.rules, account, world.fill
            )
            if status == NOT_FINITE:
                outcome = BROKEN
                break
            equity, peak, state = account.equity[one], account.peak[one], world.state[one]
            earn(desk.previous, equity, peak, state, world.terms, desk.reward)
            record_row(row, account.equity, account.weight, world.fill, recording)
            if status == RUIN:
                outcome = RUINED
                break
        recording.outcome[row] = outcome


Play = Callable[[Any, World, Desk, Recording, int, int], None]

_NO_WEIGHTS = np.zeros(0, np.float32)
_play_recorded: Play = compiled(bind(play, "play_recorded"))


def play_recorded(world: World, recording: Recording, hold: NDArray[np.float32] = _NO_WEIGHTS) -> None:
    """Play every row by its recorded actions; or, given weights (A,), hold these and record the actions.

    Neither minds a reward, whose state stays as it is.
    """
    _play_recorded(hold, world, make_desk(world), recording, 0, len(world.bar))
