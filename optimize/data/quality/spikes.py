"""Spikes: prices that leave their neighbours and come back, which no market does to that extent."""

from collections.abc import Iterator

import numpy as np

from envs.types import BoolArray, FloatArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.quality.findings import Finding, counted, find

RADIUS = 5  # bars at either side whose median close is the level; a move that stays for longer is no spike
FLOOR = 0.1  # log distance from the level below which nothing is a spike
CEILING = np.log(4.0)  # and from which on everything is
USUAL = 15.0  # times the distance that 99 of 100 bars keep; crashes of real markets reach 11 times
NAMES = ("open", "high", "low", "close")
SHOWN = 3


def spike_findings(raw: RawBars) -> Iterator[Finding]:
    """Yield the bars with a price far from the level before and after them."""
    chosen = spike_rows(raw.ohlcv[:, :4])
    if chosen.any():
        rows = np.flatnonzero(chosen)
        level = np.exp(_level(np.log(raw.ohlcv[:, 3])))
        shown = ", ".join(_describe(raw, int(row), float(level[row])) for row in rows[:SHOWN])
        more = ", ..." if len(rows) > SHOWN else ""
        remedy = "repair these prices; data.severity.spike=warn where the market did that"
        found = f"{counted(len(rows), 'bar')} with a price far from those around ({shown}{more})"
        yield find("spike", raw, raw.timestamp[rows], found, remedy)


def spike_rows(prices: FloatArray) -> BoolArray:
    """Return which bars (R,) have an open, high, low or close (R, 4) that is a spike."""
    far = _distance(prices)
    limit = max(FLOOR, min(USUAL * float(np.quantile(far, 0.99)), CEILING))
    rows: BoolArray = far > limit
    return rows


def _distance(prices: FloatArray) -> FloatArray:
    """Return the log distance (R,) from the level of the price that is farthest from it."""
    logs = np.log(prices)
    far: FloatArray = np.abs(logs - _level(logs[:, 3])[:, None]).max(axis=1)
    far[[0, -1]] = np.abs(logs[[0, -1]] - logs[[0, -1], 3:]).max(axis=1)  # no bar at one side to come back to
    return far


def _level(close: FloatArray) -> FloatArray:
    """Return the centred median of log closes, of as many bars at either side as there are, at most RADIUS.

    A centred median follows a move that stays at its own bar and passes over one that comes back.
    """
    level = close.copy()
    for radius in range(1, RADIUS + 1):
        width = 2 * radius + 1
        if len(close) < width:
            break
        median = np.median(np.lib.stride_tricks.sliding_window_view(close, width), axis=1)
        level[radius : len(close) - radius] = median
    return level


def _describe(raw: RawBars, row: int, level: float) -> str:
    prices = raw.ohlcv[row, :4]
    name = int(np.abs(np.log(prices / level)).argmax())
    return f"{NAMES[name]} {prices[name]:g} near {level:.4g} at {utc_text(raw.timestamp[row])}"
