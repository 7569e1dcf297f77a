"""Rewards: compiled functions of the equity before and after a step and of their own state.

R is the simple return of the step, net of all costs: equity / previous - 1. A differential reward is the
derivative of a running ratio by its adaptation rate: the influence of one step on the ratio.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from envs.compiled import compiled
from envs.errors import BadInputError, require
from envs.fields import RUN, check_ranges, setting
from envs.types import FloatArray, Market

RUIN_FLOOR = 1e-3
"""Floor of the equity ratio of a step; every larger loss earns the same reward as ruin."""

MIN_VARIANCE_SHARE = 1e-9
"""Smallest usable variance of buy-and-hold, relative to its mean square return."""


class RewardParams(NamedTuple):
    """Parameters of a reward as a kernel takes them."""

    unit: float  # of returns: the deviation of buy-and-hold over the train span, or 1
    adaptation_rate: float  # eta
    variance_floor: float  # in squared units: relative to the variance of buy-and-hold
    clip: float
    drawdown_penalty: float


# previous, equity, peak (N,), state (N, K), terms, reward (N,) -> rows where neither floor nor clip binds
RewardFunction = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, RewardParams, FloatArray], int]


@dataclass(frozen=True)
class Reward:
    """One reward: its kernel and source, the keys of RewardSpec it reads, its state and how that starts."""

    step: RewardFunction
    source: str
    parameters: tuple[str, ...] = ()
    state: tuple[str, ...] = ()  # K names
    start: Callable[[FloatArray], tuple[float, float, float]] | None = None  # of the state, and its variance


REWARDS: dict[str, Reward] = {}

SCALES = ("none", "volatility")
_DIFFERENTIAL = ("adaptation_rate", "variance_floor", "clip")
_MOODY = "Moody & Saffell (2001), Learning to trade via direct reinforcement"


def reward(
    name: str,
    *,
    source: str = "",
    parameters: tuple[str, ...] = (),
    state: tuple[str, ...] = (),
    start: Callable[[FloatArray], tuple[float, float, float]] | None = None,
) -> Callable[[RewardFunction], RewardFunction]:
    """Compile a function of RewardFunction's arguments and register it as reward.name.

    source: publication or formula. parameters: keys of RewardSpec that the function reads from its terms.
    state: names of K numbers that the function keeps for each row and that the agent observes; they start at
    0, or at the first two numbers of start(hold_moments), measured in units of the square root of its third.
    """

    def register(function: RewardFunction) -> RewardFunction:
        if function.__module__ != __name__:  # caches of calling kernels are keyed by its name
            function.__name__ = function.__qualname__ = f"{function.__name__}_{_code_digest(function)}"
        step = compiled(function)
        REWARDS[name] = Reward(step, source, parameters, state, start)
        return step

    return register


def find_reward(name: str) -> Reward:
    """Return the reward of that name, or raise BadInputError listing the choices."""
    require(name in REWARDS, "reward.name", name, f"one of {', '.join(sorted(REWARDS))}", REWARDS)
    return REWARDS[name]


def _code_digest(function: RewardFunction) -> str:
    """Return a digest of the file that defines a function; of its byte code where there is no file."""
    file = Path(function.__code__.co_filename)
    code = function.__code__
    content = file.read_bytes() if file.is_file() else repr((code.co_code, code.co_consts)).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def try_reward(name: str) -> None:
    """Raise BadInputError unless a reward compiles and stays finite for a gain, a loss and a ruin."""
    found = find_reward(name)
    previous, equity, peak = np.ones(3), np.array([1.1, 0.9, -0.1]), np.array([1.1, 1.0, 1.0])
    earned, state = np.full(3, np.nan), np.zeros((3, len(found.state)))
    try:
        active = found.step(previous, equity, peak, state, RewardParams(1.0, 0.01, 0.1, 10.0, 1.0), earned)
    except Exception as error:  # of numba's compiler, or of the function itself
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BadInputError(
            f"reward {name!r} does not compile: {'; '.join(lines[1:3] or lines)}; write it with plain loops "
            "over the rows, as envs/rewards.py does"
        ) from error
    if not (np.isfinite(earned).all() and np.isfinite(state).all()):
        raise BadInputError(
            f"reward {name!r} comes to {earned.tolist()} for equity ratios of 1.1, 0.9 and -0.1 (ruin): "
            "write a finite number into every row, as envs.rewards.floored_log_return(previous, equity) does"
        )
    if not isinstance(active, int):
        raise BadInputError(f"reward {name!r} returned {active!r}: return len(reward)")


@compiled
def floored_log_return(previous: float, equity: float) -> float:
    """Return log(equity / previous), floored at log(RUIN_FLOOR) so that ruin stays finite."""
    return math.log(max(equity / previous, RUIN_FLOOR))


@reward(
    "net_log_return",
    source="Kelly (1956), A new interpretation of information rate",
    parameters=("scale",),
)
def net_log_return(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: RewardParams,
    reward: FloatArray,
) -> int:
    """Write the log return net of all costs, in units of terms.unit."""
    for row in range(len(reward)):
        reward[row] = floored_log_return(previous[row], equity[row]) / terms.unit
    return len(reward)


@reward(
    "drawdown_penalised",
    source="net_log_return less a linear penalty",
    parameters=("drawdown_penalty", "scale"),
)
def drawdown_penalised(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: RewardParams,
    reward: FloatArray,
) -> int:
    """Write the log return minus the penalty times the increase of the drawdown 1 - equity / peak.

    The drawdown grows only where equity falls, and then the peak (here that after the step) stays.
    """
    for row in range(len(reward)):
        deeper = max(previous[row] - equity[row], 0.0) / peak[row]
        gained = floored_log_return(previous[row], equity[row])
        reward[row] = (gained - terms.drawdown_penalty * deeper) / terms.unit
    return len(reward)


@compiled
def clip_reward(gain: float, ratio: float, clip: float) -> float:
    """Return a differential ratio within +-clip; ruin earns -clip, as its square could make it positive."""
    return -clip if ratio <= RUIN_FLOOR else min(max(gain, -clip), clip)


def sharpe_start(moments: FloatArray) -> tuple[float, float, float]:
    """Return A, B and the variance B - A^2 of hold_moments."""
    mean, square, _ = moments.tolist()
    return mean, square, square - mean**2


def downside_start(moments: FloatArray) -> tuple[float, float, float]:
    """Return A and twice DD^2 of hold_moments: the second time as the variance of the losses."""
    mean, _, square = moments.tolist()
    return mean, square, square


@reward(
    "differential_sharpe",
    source=_MOODY,
    parameters=_DIFFERENTIAL,
    state=("mean", "mean_square"),
    start=sharpe_start,
)
def differential_sharpe(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: RewardParams,
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
        reward[row] = clip_reward(gain, ratio, terms.clip)
        active += variance > terms.variance_floor and reward[row] == gain
    return active


@reward(
    "differential_downside",
    source=_MOODY,
    parameters=_DIFFERENTIAL,
    state=("mean", "mean_square_loss"),
    start=downside_start,
)
def differential_downside(
    previous: FloatArray,
    equity: FloatArray,
    peak: FloatArray,
    state: FloatArray,
    terms: RewardParams,
    reward: FloatArray,
) -> int:
    """Write the influence of R on A / DD; move A by eta (R - A), DD^2 by eta (min(R, 0)^2 - DD^2).

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
        reward[row] = clip_reward(gain, ratio, terms.clip)
        active += square > terms.variance_floor and reward[row] == gain
    return active


@dataclass(frozen=True)
class RewardSpec:
    """Reward that the agent learns from; its yaml in conf/reward lists the keys that it reads."""

    name: str = setting("net_log_return", RUN, "The reward that the agent learns from.")
    adaptation_rate: float = setting(
        0.01, RUN, "Weight of the newest bar in the running moments.", unit="1 / bars", above=0, high=1
    )
    variance_floor: float = setting(
        0.1, RUN, "Least running variance that a reward divides by.", unit="of the variance of buy-and-hold",
        above=0, high=1,
    )  # fmt: skip
    clip: float = setting(10.0, RUN, "Largest size of a differential reward.", above=0)
    drawdown_penalty: float = setting(1.0, RUN, "Penalty for each unit added to the drawdown.", low=0)
    scale: str = setting(
        "none", RUN, "Unit of the reward: volatility is the deviation of buy-and-hold over the train span.",
        choices=SCALES,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self, "reward")

    @property
    def reward(self) -> Reward:
        """Return the reward of that name, or raise BadInputError listing the choices."""
        return find_reward(self.name)

    def fit(self, moments: FloatArray) -> tuple[FloatArray, RewardParams]:
        """Return the initial state (K,) of an episode and the parameters of the kernel.

        moments is hold_moments of the train span. The state is kept and shown in units of the deviation of
        buy-and-hold there, which changes no differential ratio, for these are free of units.
        """
        terms = RewardParams(1.0, self.adaptation_rate, self.variance_floor, self.clip, self.drawdown_penalty)
        if self.reward.start is None and self.scale == "none":
            return np.zeros(len(self.reward.state)), terms
        if not np.isfinite(moments).all():
            raise BadInputError(
                f"reward.name={self.name!r} with reward.scale={self.scale} needs the moments of buy-and-hold "
                "on the train span, but the market has none: pass "
                "envs.rewards.buy_and_hold_moments(market, first, last), as scale_market does"
            )
        mean, square, variance = (self.reward.start or sharpe_start)(moments)
        if variance <= MIN_VARIANCE_SHARE * square or square <= 0.0:
            raise BadInputError(
                f"reward.name={self.name!r} is not allowed on this train span: the returns of buy-and-hold "
                f"(mean {mean:g}, mean square {square:g}) are too steady to scale by; train on "
                "more bars or use reward=net_log_return "
                "with reward.scale=none"
            )
        unit = math.sqrt(variance)
        if self.reward.start is None:
            return np.zeros(len(self.reward.state)), terms._replace(unit=unit)
        return np.array([mean / unit, square / variance]), terms._replace(unit=unit)


def buy_and_hold_moments(market: Market, first: int, last: int) -> FloatArray:
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
