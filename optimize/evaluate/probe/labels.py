"""Labels of the linear probe: the log return of a decision at each bar, as the ledger would pay it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import FloatArray, IntArray, Market

HORIZONS = (1, 4, 16)  # bars for which a decision is held


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a span that open a position, with their labels."""

    bars: IntArray  # (n,) rising, at whose close each is made
    labels: FloatArray  # (n, A, H) log returns, 0 for an asset in which nothing opens


def known_decisions(
    market: Market, first: int, last: int, *, at_open: bool, horizons: Sequence[int] = HORIZONS
) -> Decisions:
    """Return the decisions of the bars [first, last] whose positions are all closed within them."""
    bars = np.arange(first, last_known(first, last, max(horizons), at_open=at_open) + 1)
    labels = decision_returns(market, at_open=at_open, horizons=horizons)[bars]
    opens = np.isfinite(labels).any(axis=(1, 2))
    return Decisions(bars[opens], np.nan_to_num(labels[opens], nan=0.0))


def last_known(first: int, last: int, horizon: int, *, at_open: bool) -> int:
    """Return the last bar in [first, last] whose decision is closed within them, or first - 1 without one."""
    return max(first - 1, last - horizon - (1 if at_open else 0))


def decision_returns(market: Market, *, at_open: bool, horizons: Sequence[int] = HORIZONS) -> FloatArray:
    """Return the log returns (T, A, H) of a position opened by the decision at the close of each bar.

    It is filled at the next open (at_open) or at that close, and closed h bars later or at the first forced
    exit before. NaN marks a decision that opens nothing (its asset does not trade at the fill, or the exit
    of its session has begun) and one whose position outlives the market.
    """
    points = _price_points(market)
    exits = _exit_points(market, at_open=at_open)
    entry = 2 * np.arange(market.n_bars) + (2 if at_open else 1)
    first_exit = _next_at_or_after(exits, entry)
    inside = entry < len(points)
    opened = np.zeros((market.n_bars, market.n_assets), dtype=np.bool_)
    opened[inside] = market.tradable[entry[inside] // 2] & (first_exit[inside] > entry[inside])[:, None]
    found = np.full((market.n_bars, market.n_assets, len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        closed = np.minimum(entry + 2 * horizon, first_exit)
        known = inside & (closed < len(points))
        paid = np.log(points[closed[known]] / points[entry[known]])
        found[known, :, place] = np.where(opened[known], paid, np.nan)
    return found


def _price_points(market: Market) -> FloatArray:
    """Return the prices (2 T, A) at the open and the close of each bar; without trade, the last close."""
    before = np.concatenate([market.open[:1], market.close[:-1]])
    points = np.empty((2 * market.n_bars, market.n_assets))
    points[0::2] = np.where(market.tradable, market.open, before)
    points[1::2] = market.close
    return points


def _exit_points(market: Market, *, at_open: bool) -> IntArray:
    """Return the sorted points in time at which positions are closed by force."""
    begun = np.flatnonzero(market.exit_at_open)
    at_last_close = np.flatnonzero(market.exit_at_close)
    opening = 2 * begun if at_open else 2 * begun - 1
    return np.unique(np.concatenate([opening, 2 * at_last_close + 1]))


def _next_at_or_after(exits: IntArray, points: IntArray) -> IntArray:
    """Return the first exit at or after each point; a point beyond the market where there is none."""
    never = np.iinfo(np.int64).max
    return np.append(exits, never)[np.searchsorted(exits, points)]
