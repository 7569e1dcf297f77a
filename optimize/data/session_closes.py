"""The session closes of a market, by which the bars of one instrument are recognised under any name."""

from dataclasses import dataclass

import numpy as np

from envs.types import DateArray, FloatArray, Market

CLOSE_DIGITS = 7  # significant, of a stored close
COMPARED = 10  # common sessions from which on returns are compared; the levels of fewer are
RETURN_SHARE = (
    0.25  # feeds of one asset differ by less of its usual return; assets correlated below 0.97 by more
)


@dataclass(frozen=True, eq=False)
class Closes:
    """The last close of each session of a market."""

    symbols: tuple[str, ...]
    date: DateArray  # (S,)
    close: FloatArray  # (S, A); not finite where a symbol has no price yet


def closes_of(market: Market, end: int | None = None) -> Closes:
    """Return the session closes of a market, of its first `end` bars only where that is given."""
    session = market.session[:end]
    last = np.flatnonzero(np.append(session[1:] != session[:-1], True))
    return Closes(market.symbols, market.session_date[session[last]], market.close[last])


def priced(closes: Closes, asset: int) -> Closes:
    """Return one asset's closes on the sessions where it has a price."""
    column = closes.close[:, [asset]]
    kept = np.isfinite(column[:, 0]) & (column[:, 0] > 0.0)
    return Closes((closes.symbols[asset],), closes.date[kept], column[kept])


def common_closes(some: Closes, others: Closes) -> tuple[DateArray, FloatArray, FloatArray]:
    """Return the common sessions of two assets and the logarithms of both closes."""
    days, first, second = np.intersect1d(some.date, others.date, return_indices=True)
    return days, np.log(some.close[first, 0]), np.log(others.close[second, 0])


def move_alike(some: Closes, others: Closes) -> bool:
    """Return whether two assets are one instrument: their returns agree on ten or more common sessions.

    Bars of another timeframe, restated and rescaled prices are found; sessions that end at another hour are
    not. A session on which neither moves is left out, as it fits every instrument that is at rest.
    """
    days, first, second = common_closes(some, others)
    if len(days) < COMPARED:
        return False
    theirs, ours = np.diff(first), np.diff(second)
    moved = (theirs != 0.0) | (ours != 0.0)
    if moved.sum() < COMPARED - 1:
        return False
    apart = np.median(np.abs(ours - theirs)[moved])
    return bool(apart <= RETURN_SHARE * np.median(np.abs(theirs)[moved]))


def join_closes(older: Closes, newer: Closes) -> Closes:
    """Return the closes of one asset on all sessions of both, the older ones at the level of the newer."""
    _, before, now = common_closes(older, newer)
    rest = ~np.isin(older.date, newer.date)
    level = float(np.exp(np.median(now - before)))
    days = np.concatenate([older.date[rest], newer.date])
    order = np.argsort(days)
    return Closes(newer.symbols, days[order], np.concatenate([older.close[rest] * level, newer.close])[order])
