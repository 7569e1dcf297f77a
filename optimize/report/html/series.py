"""Series of a report from session returns: luck band, drawdowns, rolling Sharpe ratio, months, costs."""

from dataclasses import dataclass

import numpy as np

from envs.types import DateArray, FloatArray, IntArray
from optimize.evaluate.drawdowns import SessionLevels
from optimize.evaluate.luck.resampling import optimal_block, stationary_draws
from optimize.evaluate.metrics import sharpe_error, sharpe_ratio
from optimize.results.study_views import ERRORS

BAND = (0.025, 0.975)  # quantiles of the luck band
PATHS = 1000
ROLLING_SESSIONS = 63  # a quarter of a year on an exchange
FEWEST_ROLLING = 20
MOST_DRAWN = 500  # of a drawn line
DRAWDOWNS_SHOWN = 5
ROUNDING = 1e-9  # of a product of floats
COST_MULTIPLES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, eq=False)
class Band:
    """A lower and an upper line."""

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Drawdown:
    """One loss from a peak until equity is back there."""

    first: np.datetime64  # session of the peak
    deepest: np.datetime64
    back: np.datetime64 | None  # None: not yet
    depth: float  # < 0
    sessions: int  # from the peak until it is back, or until the last session


@dataclass(frozen=True, eq=False)
class RollingSharpe:
    """Sharpe ratio of the newest sessions at each session, with a 95 % interval."""

    sessions: DateArray
    sharpe: FloatArray
    band: Band
    length: int


def luck_band(returns: FloatArray, seed: int = 0) -> Band:
    """Return the span of 95 % of equity paths without skill: sessions in random blocks, less their mean."""
    centred = returns - returns.mean()
    generator = np.random.default_rng(seed)
    block = optimal_block([centred]) if len(returns) > 10 and np.ptp(returns) > 0 else 1.0
    drawn = stationary_draws(generator, n_bootstraps=PATHS, n_sessions=len(returns), block_length=block)
    paths = np.cumprod(1.0 + centred[drawn], axis=1)
    low, high = np.quantile(paths, BAND, axis=0)
    return Band(low, high)


def bar_drawdowns(sessions: DateArray, levels: SessionLevels, most: int = DRAWDOWNS_SHOWN) -> list[Drawdown]:
    """Return the deepest drawdowns over bar closes, deepest first; each lasts from one peak to the next.

    In a session with a new peak, the lowest close shows whether its drawdown came before or after that peak.
    """
    peaks = np.maximum.accumulate(np.concatenate(([1.0], levels.highest)))
    rises = levels.highest > peaks[:-1]
    after = rises & (levels.lowest > peaks[:-1] * (1.0 + levels.drawdown) * (1.0 + ROUNDING))
    since = np.cumsum(rises) - rises + after  # number of peaks before the drawdown of a session
    reached = np.concatenate(([0], np.flatnonzero(rises)))
    found = []
    for number in np.unique(since).tolist():
        members = np.flatnonzero(since == number)
        deepest = int(members[np.argmin(levels.drawdown[members])])
        back = int(reached[number + 1]) if number + 1 < len(reached) else None
        last, first = len(sessions) - 1 if back is None else back, int(reached[number])
        depth = float(levels.drawdown[deepest])
        if depth < 0:
            end = None if back is None else sessions[back]
            found.append(Drawdown(sessions[first], sessions[deepest], end, depth, last - first))
    return sorted(found, key=lambda each: each.depth)[:most]


def underwater(returns: FloatArray) -> FloatArray:
    """Return the loss from the highest equity so far at each session, the start included."""
    equity = np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    return np.asarray((equity / np.maximum.accumulate(equity) - 1.0)[1:])


def worst_drawdowns(sessions: DateArray, returns: FloatArray, most: int = DRAWDOWNS_SHOWN) -> list[Drawdown]:
    """Return the deepest drawdowns, deepest first; each begins at a peak and ends where equity is back."""
    depth = underwater(returns)
    under = np.concatenate(([False], depth < 0, [False]))
    begins = np.flatnonzero(under[1:] & ~under[:-1])
    ends = np.flatnonzero(under[:-1] & ~under[1:])
    found = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        lowest = begin + int(np.argmin(depth[begin:end]))
        back = sessions[end] if end < len(depth) else None
        peak = sessions[max(begin - 1, 0)]
        found.append(Drawdown(peak, sessions[lowest], back, float(depth[lowest]), int(end - begin)))
    return sorted(found, key=lambda each: each.depth)[:most]


def rolling_sharpe(
    sessions: DateArray, returns: FloatArray, sessions_per_year: float, risk_free: float
) -> RollingSharpe | None:
    """Return the Sharpe ratio of the last 63 sessions, or a third of few; None where there are too few."""
    length = min(ROLLING_SESSIONS, len(returns) // 3)
    if length < FEWEST_ROLLING:
        return None
    ends = np.arange(length, len(returns) + 1)
    ends = ends[thinned(len(ends))]
    parts = [returns[end - length : end] for end in ends]
    sharpe = np.array([sharpe_ratio(part, sessions_per_year, risk_free) for part in parts])
    error = np.array(
        [sharpe_error(part - risk_free / sessions_per_year, sessions_per_year) for part in parts]
    )
    return RollingSharpe(
        sessions[ends - 1], sharpe, Band(sharpe - ERRORS * error, sharpe + ERRORS * error), length
    )


def monthly_returns(sessions: DateArray, returns: FloatArray) -> dict[int, dict[int, float]]:
    """Return the compounded return of each month by year; key 0 is the whole year."""
    months = sessions.astype("datetime64[M]").astype(np.int64)
    table: dict[int, dict[int, float]] = {}
    for month in np.unique(months):
        year, number = 1970 + int(month) // 12, int(month) % 12 + 1
        table.setdefault(year, {})[number] = float(np.prod(1.0 + returns[months == month]) - 1.0)
    for row in table.values():
        row[0] = float(np.prod([1.0 + each for each in row.values()]) - 1.0)
    return table


def cost_sensitivity(
    returns: FloatArray, free: FloatArray, sessions_per_year: float, risk_free: float
) -> list[tuple[float, float]]:
    """Return the Sharpe ratio at multiples of the costs, for which the cost of each session is scaled."""
    paid = free - returns
    return [
        (multiple, sharpe_ratio(free - multiple * paid, sessions_per_year, risk_free))
        for multiple in COST_MULTIPLES
    ]


def thinned(count: int, most: int = MOST_DRAWN) -> IntArray:
    """Return at most so many places of a series, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
