"""Rewards: compiled functions of the equity before and after a step, and of what they remember.

R is the simple return of the step, net of all costs: equity / previous - 1. A differential reward is the
derivative of a running ratio by its adaptation rate: what this one step did to the ratio.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.compiled import compiled
from envs.errors import BadInputError, require
from envs.types import FloatArray, Market

RUIN_FLOOR = 1e-3
"""Smallest equity ratio that is scored; a step that loses more, ruin included, earns what ruin earns."""

STILL = 1e-9
"""Smallest variance of buy-and-hold, as a part of its mean square return, that is one."""


class Terms(NamedTuple):
    """The numbers of a reward, in the form a kernel takes."""

    unit: float  # of returns: the deviation of buy-and-hold over the train span
    adaptation_rate: float  # eta
    variance_floor: float  # in squared units, so a part of buy-and-hold's own
    clip: float
    drawdown_penalty: float


# previous, equity, peak (N,), state (N, K), terms, reward (N,) -> rows where neither floor nor clip binds
RewardFunction = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, Terms, FloatArray], int]


@compiled
def log_return(previous: float, equity: float) -> float:
    """Return log(equity / previous), floored at log(RUIN_FLOOR) so that ruin stays finite."""
    return math.log(max(equity / previous, RUIN_FLOOR))


@compiled
def net_log_return(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: Terms,
    reward: FloatArray,
) -> int:
    """Write the log return net of all costs."""
    for row in range(len(reward)):
        reward[row] = log_return(previous[row], equity[row])
    return len(reward)


@compiled
def drawdown_penalised(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: Terms,
    reward: FloatArray,
) -> int:
    """Write the log return less the penalty times what the step added to the drawdown 1 - equity / peak.

    The drawdown grows only where equity falls, and then the peak (here that after the step) stays.
    """
    for row in range(len(reward)):
        deeper = max(previous[row] - equity[row], 0.0) / peak[row]
        reward[row] = log_return(previous[row], equity[row]) - terms.drawdown_penalty * deeper
    return len(reward)


@compiled
def bound(gain: float, ratio: float, clip: float) -> float:
    """Return a differential ratio within +-clip; ruin, whose square may flatter it, earns -clip."""
    return -clip if ratio <= RUIN_FLOOR else min(max(gain, -clip), clip)


@compiled
def differential_sharpe(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: Terms,
    reward: FloatArray,
) -> int:
    """Write D = (B dA - A dB / 2) / (B - A^2)^1.5 and move A by eta dA, B by eta dB; state is A, B (N, 2).

    dA = R - A, dB = R^2 - B. Moody & Saffell (2001), the differential Sharpe ratio.
    """
    active = 0
    for row in range(len(reward)):
        ratio = equity[row] / previous[row]
        gained = (ratio - 1.0) / terms.unit
        mean, square = state[row, 0], state[row, 1]
        to_mean, to_square = gained - mean, gained * gained - square
        variance = square - mean * mean
        gain = (square * to_mean - 0.5 * mean * to_square) / max(variance, terms.variance_floor) ** 1.5
        state[row, 0] = mean + terms.adaptation_rate * to_mean
        state[row, 1] = square + terms.adaptation_rate * to_square
        reward[row] = bound(gain, ratio, terms.clip)
        active += variance > terms.variance_floor and reward[row] == gain
    return active


@compiled
def differential_downside(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: Terms,
    reward: FloatArray,
) -> int:
    """Write what R does to A / DD, then move A by eta (R - A), DD^2 by eta (min(R, 0)^2 - DD^2).

    D = (R - A / 2) / DD where R > 0, else (DD^2 (R - A / 2) - A R^2 / 2) / DD^3; state is A, DD^2 (N, 2).
    Moody & Saffell (2001), the differential downside deviation ratio.
    """
    active = 0
    for row in range(len(reward)):
        ratio = equity[row] / previous[row]
        gained = (ratio - 1.0) / terms.unit
        mean, square = state[row, 0], state[row, 1]
        downside = math.sqrt(max(square, terms.variance_floor))
        gain = (gained - 0.5 * mean) / downside
        if gained <= 0.0:
            gain -= 0.5 * mean * gained * gained / downside**3
        state[row, 0] = mean + terms.adaptation_rate * (gained - mean)
        state[row, 1] = square + terms.adaptation_rate * (min(gained, 0.0) ** 2 - square)
        reward[row] = bound(gain, ratio, terms.clip)
        active += square > terms.variance_floor and reward[row] == gain
    return active


def sharpe_start(moments: FloatArray) -> tuple[float, float, float]:
    """Return A, B and the variance B - A^2 of hold_moments."""
    mean, square, _ = moments.tolist()
    return mean, square, square - mean**2


def downside_start(moments: FloatArray) -> tuple[float, float, float]:
    """Return A and twice DD^2 of hold_moments: the second time as the variance of the losses."""
    mean, _, square = moments.tolist()
    return mean, square, square


@dataclass(frozen=True)
class Reward:
    """One reward: its kernel and source, the keys of RewardSpec it reads, what it remembers and shows."""

    step: RewardFunction
    source: str
    parameters: tuple[str, ...] = ()
    state: tuple[str, ...] = ()  # K names
    start: Callable[[FloatArray], tuple[float, float, float]] | None = None  # of the state, and its variance


_DIFFERENTIAL = ("adaptation_rate", "variance_floor", "clip")
_MOODY = "Moody & Saffell (2001), Learning to trade via direct reinforcement"

REWARDS: dict[str, Reward] = {
    "net_log_return": Reward(net_log_return, "Kelly (1956), A new interpretation of information rate"),
    "differential_sharpe": Reward(
        differential_sharpe, _MOODY, _DIFFERENTIAL, ("mean", "mean_square"), sharpe_start
    ),
    "differential_downside": Reward(
        differential_downside, _MOODY, _DIFFERENTIAL, ("mean", "mean_square_loss"), downside_start
    ),
    "drawdown_penalised": Reward(
        drawdown_penalised, "net_log_return less a linear penalty", ("drawdown_penalty",)
    ),
}


@dataclass(frozen=True)
class RewardSpec:
    """Which reward the agent learns from; each reads the keys that its yaml in conf/reward lists."""

    name: str = "net_log_return"
    adaptation_rate: float = 0.01  # eta: 1 / bars that the running moments remember
    variance_floor: float = 0.1  # of the variance of buy-and-hold
    clip: float = 10.0
    drawdown_penalty: float = 1.0  # for each unit added to the drawdown

    def __post_init__(self) -> None:
        require(self.name in REWARDS, "reward.name", self.name, f"one of {', '.join(sorted(REWARDS))}")
        for key in ("adaptation_rate", "variance_floor"):
            value = getattr(self, key)
            require(0 < value <= 1, f"reward.{key}", value, "above 0 and at most 1, such as 0.01")
        require(0 < self.clip < math.inf, "reward.clip", self.clip, "a finite number above 0, such as 10")
        penalty = self.drawdown_penalty
        require(0 <= penalty < math.inf, "reward.drawdown_penalty", penalty, "a finite number >= 0")

    @property
    def reward(self) -> Reward:
        """Return the reward of that name."""
        return REWARDS[self.name]

    def fit(self, moments: FloatArray) -> tuple[FloatArray, Terms]:
        """Return the state (K,) that each episode starts with and the kernel's numbers.

        moments is hold_moments of the train span. The state is kept and shown in units of the deviation of
        buy-and-hold there, which changes no differential ratio, for these are free of units.
        """
        terms = Terms(1.0, self.adaptation_rate, self.variance_floor, self.clip, self.drawdown_penalty)
        if self.reward.start is None:
            return np.zeros(0), terms
        if not np.isfinite(moments).all():
            raise BadInputError(
                f"reward.name={self.name!r} is not allowed on a market without hold_moments: give it those "
                "of its train span, envs.rewards.hold_moments(market, first, last), as scale_market does"
            )
        mean, square, variance = self.reward.start(moments)
        if variance <= STILL * square or square <= 0.0:
            raise BadInputError(
                f"reward.name={self.name!r} is not allowed on this train span: the returns of buy-and-hold "
                f"(mean {mean:g}, {self.reward.state[1]} {square:g}) are too steady to scale by; train on "
                "more bars or use reward=net_log_return"
            )
        unit = math.sqrt(variance)
        return np.array([mean / unit, square / variance]), terms._replace(unit=unit)


def hold_moments(market: Market, first: int, last: int) -> FloatArray:
    """Return the mean of R, R^2 and min(R, 0)^2 of a bar's return on an equally weighted buy-and-hold, (3,).

    It is bought at the close of bar first, left to drift and held to the close of bar last. A session that
    ends flat ends the holding as the ledger does, and the next begins at its first open. NaN where the span
    holds no return.
    """
    if last <= first:
        return np.full(3, np.nan)
    returns = _hold_returns(market, slice(first, last + 1))
    return np.array([returns.mean(), np.square(returns).mean(), np.square(np.minimum(returns, 0.0)).mean()])


def _hold_returns(market: Market, bars: slice) -> FloatArray:
    """Return R (T - 1,) of buy-and-hold from close to close of T bars, 0 where every account is flat."""
    exits = market.exit_at_open[bars]
    flat = exits | market.exit_at_close[bars]  # at the close of the bar
    buys = np.append(not flat[0], flat[:-1] & ~exits[1:])
    bought = np.maximum.accumulate(np.where(buys, np.arange(len(buys)), 0))  # the bar of the last purchase
    paid = market.open[bars][bought]
    if buys[0]:
        paid[bought == 0] = market.close[bars][0]
    value = (np.where(exits[:, None], market.open[bars], market.close[bars]) / paid).mean(axis=1)
    held = value[1:] / value[:-1] - 1.0
    returns: FloatArray = np.where(~flat[:-1], held, np.where(buys[1:], value[1:] - 1.0, 0.0))
    return returns
