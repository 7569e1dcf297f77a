"""Price bars of one or more symbols on one time axis, and the checks they must pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.spec import TIMEFRAME_NS, timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_arrays, hash_object

PRICE_TOLERANCE = 1e-9  # relative; a file rounded to fewer digits than it was computed in still passes
MIN_BARS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """OHLCV of A symbols; an untradable bar carries the last close and no volume."""

    symbols: tuple[str, ...]  # A names
    timeframe: str
    timestamp: IntArray  # (T,) UTC nanoseconds, start of the bar
    bar_end: IntArray  # (T,) UTC nanoseconds; never later than the next bar's start
    open: FloatArray  # (T, A)
    high: FloatArray  # (T, A)
    low: FloatArray  # (T, A)
    close: FloatArray  # (T, A)
    volume: FloatArray  # (T, A)
    tradable: BoolArray  # (T, A)

    @property
    def n_bars(self) -> int:
        """Return T."""
        return len(self.timestamp)


def make_bars(
    symbol: str, timestamp: IntArray, ohlcv: FloatArray, timeframe: str | None, source: str
) -> Bars:
    """Build the bars of one symbol from ohlcv (T, 5); a timeframe of None is read off the spacing."""
    if len(timestamp) < MIN_BARS:
        raise BadInputError(f"{source} has {len(timestamp)} rows, but at least {MIN_BARS} bars are needed")
    check_order(timestamp, source)
    timeframe = timeframe or infer_timeframe(timestamp, source)
    open_, high, low, close, volume = (np.ascontiguousarray(column[:, None]) for column in ohlcv.T)
    tradable = np.ones_like(close, dtype=np.bool_)
    bar_end = nominal_end(timestamp, timeframe)
    bars = Bars((symbol,), timeframe, timestamp, bar_end, open_, high, low, close, volume, tradable)
    check_bars(bars, source)
    return bars


def nominal_end(timestamp: IntArray, timeframe: str) -> IntArray:
    """Return start + timeframe, cut at the next start (local days are 23 h at a clock change)."""
    end = timestamp + timeframe_ns(timeframe)
    end[:-1] = np.minimum(end[:-1], timestamp[1:])
    return end


def infer_timeframe(timestamp: IntArray, source: str) -> str:
    """Return the timeframe whose length is the most frequent spacing of timestamp."""
    spacing, count = np.unique(np.diff(timestamp), return_counts=True)
    found_ns = int(spacing[count.argmax()])
    for name, length_ns in TIMEFRAME_NS.items():
        if length_ns == found_ns:
            return name
    raise BadInputError(
        f"{source}: the most frequent spacing is {found_ns / 1e9:g} s, which is no known timeframe; "
        f"set data.source_timeframe to one of {', '.join(TIMEFRAME_NS)}"
    )


def join_bars(parts: Sequence[Bars]) -> Bars:
    """Put single-symbol bars on one axis (outer join), from the first bar at which all have printed."""
    if len(parts) == 1:
        return parts[0]
    timeframes = {part.timeframe for part in parts}
    if len(timeframes) > 1:
        found = ", ".join(f"{part.symbols[0]} {part.timeframe}" for part in parts)
        raise BadInputError(f"the files of data.symbols differ in timeframe ({found}): use files of one")
    start = max(int(part.timestamp[0]) for part in parts)
    axis = np.unique(np.concatenate([part.timestamp for part in parts]))
    axis = axis[axis >= start]
    fields = [_on_axis(part, axis) for part in parts]
    stacked = [np.concatenate(columns, axis=1) for columns in zip(*fields, strict=True)]
    open_, high, low, close, volume, tradable = stacked
    symbols = tuple(part.symbols[0] for part in parts)
    timeframe = parts[0].timeframe
    end = nominal_end(axis, timeframe)
    return Bars(symbols, timeframe, axis, end, open_, high, low, close, volume, tradable.astype(np.bool_))


def _on_axis(part: Bars, axis: IntArray) -> tuple[NDArray[np.generic], ...]:
    """Return open, high, low, close, volume and tradable (T, 1) of one symbol on axis."""
    row = np.searchsorted(part.timestamp, axis, side="right") - 1
    tradable = (part.timestamp[row] == axis)[:, None]
    close = part.close[row]
    prices = (np.where(tradable, column[row], close) for column in (part.open, part.high, part.low))
    return (*prices, close, np.where(tradable, part.volume[row], 0.0), tradable)


def bars_fingerprint(bars: Bars) -> str:
    """Return the SHA-256 over names, timeframe, stamps, prices, volume and tradability."""
    arrays = [bars.timestamp, bars.bar_end, bars.open, bars.high, bars.low, bars.close, bars.volume]
    return hash_object([list(bars.symbols), bars.timeframe, hash_arrays([*arrays, bars.tradable])])


def utc_text(stamp_ns: int) -> str:
    """Return a UTC stamp as text, to the second."""
    return f"{np.datetime64(int(stamp_ns), 'ns').astype('datetime64[s]')}Z"


def check_bars(bars: Bars, source: str) -> None:
    """Refuse bars that cannot be traded on, with the count and the first offending stamp."""
    if bars.n_bars < MIN_BARS:
        raise BadInputError(f"{source} has {bars.n_bars} rows, but at least {MIN_BARS} bars are needed")
    check_order(bars.timestamp, source)
    for bad, what, remedy in _defects(bars):
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            first = utc_text(bars.timestamp[rows[0]])
            raise BadInputError(f"{source}: {len(rows)} bars {what}, first at {first}: {remedy}")


def check_order(timestamp: IntArray, source: str) -> None:
    """Refuse stamps that are not strictly increasing; sorting is never repaired in silence."""
    step = np.diff(timestamp)
    back, same = np.flatnonzero(step < 0), np.flatnonzero(step == 0)
    if len(back):
        first = utc_text(timestamp[back[0] + 1])
        raise BadInputError(
            f"{source} is unsorted: {len(back)} bars are stamped before the one above, first {first}: "
            "sort the file by time"
        )
    if len(same):
        first = utc_text(timestamp[same[0]])
        raise BadInputError(
            f"{source} has {len(same)} duplicated stamps, first {first}: keep one row a stamp "
            "(a file of several symbols must be split)"
        )


def _defects(bars: Bars) -> Iterator[tuple[BoolArray, str, str]]:
    """Yield (mask (T, A), what is wrong, what to do), the most basic defect first."""
    columns = np.stack([bars.open, bars.high, bars.low, bars.close, bars.volume])
    prices = columns[:4]
    missing = ~np.isfinite(columns.sum(axis=0))
    yield missing, "have NaN or infinite values", "repair the file or set data.drop_nan=true to drop them"
    yield prices.min(axis=0) <= 0, "have a price <= 0", "prices must be positive; repair the file"
    yield bars.volume < 0, "have a negative volume", "repair the file"
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    slack = PRICE_TOLERANCE * bars.close
    wrong = (bars.high < top - slack) | (bars.low > bottom + slack)
    yield wrong, "break low <= open, close <= high", "repair the file or check data.columns"
