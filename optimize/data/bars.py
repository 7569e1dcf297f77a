"""Price bars of one or more symbols on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.spec import DAY_NS, timeframe_name, timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_arrays, hash_object

SERIES = ("timestamp", "bar_end", "open", "high", "low", "close", "volume", "tradable", "spread")


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
    spread: FloatArray  # (T, A) quoted ask - bid in units of the price, 0 where the source has none

    @property
    def n_bars(self) -> int:
        """Return T."""
        return len(self.timestamp)


@dataclass(frozen=True, slots=True, eq=False)
class RawBars:
    """One symbol's rows as a source gives them, before any check."""

    symbol: str
    source: str  # the file, or what made them
    timestamp: IntArray  # (R,) UTC nanoseconds, start of the bar
    ohlcv: FloatArray  # (R, 5)
    spread: FloatArray  # (R,) quoted ask - bid in units of the price, 0 where the source has none
    timeframe: str | None = None  # None: read off the spacing
    has_volume: bool = True  # False: the source has no such column and volume is 0
    assumptions: tuple[str, ...] = ()  # sentences on what was taken for granted in reading, such as an order
    clock: str | None = None  # data.time_zone that naive stamps were read in; None: they are instants


def make_bars(raw: RawBars) -> Bars:
    """Return rows that passed the checks of quality.rows as bars, every one of them tradable."""
    timeframe = raw.timeframe or infer_timeframe(raw.timestamp)
    columns = (np.ascontiguousarray(column[:, None]) for column in (*raw.ohlcv.T, raw.spread))
    open_, high, low, close, volume, spread = columns
    traded = np.ones_like(close, dtype=np.bool_)
    end = nominal_end(raw.timestamp, timeframe)
    return Bars((raw.symbol,), timeframe, raw.timestamp, end, open_, high, low, close, volume, traded, spread)


def select_rows(bars: Bars, kept: BoolArray) -> Bars:
    """Return the bars that kept (T,) marks."""
    return replace(bars, **{name: getattr(bars, name)[kept] for name in SERIES})


def nominal_end(timestamp: IntArray, timeframe: str) -> IntArray:
    """Return start + timeframe, cut at the next start (local days are 23 h at a clock change)."""
    end = timestamp + timeframe_ns(timeframe)
    end[:-1] = np.minimum(end[:-1], timestamp[1:])
    return end


def infer_timeframe(timestamp: IntArray) -> str:
    """Return the timeframe whose length is the most frequent spacing of timestamp."""
    length_ns, found, _ = _most_frequent(timestamp)
    name = timeframe_name(length_ns)
    if name is not None:
        return name
    if length_ns > DAY_NS:
        raise BadInputError(
            f"the most frequent spacing is {found}, and a market has no bars longer than one session; use "
            "the daily bars of the same source"
        )
    raise BadInputError(
        f"the most frequent spacing is {found}, and bars are whole minutes, or seconds that divide one; "
        "resample the file to whole minutes first, such as 1m or 5m"
    )


def usual_spacing(timestamp: IntArray) -> tuple[str, float]:
    """Return the most frequent spacing of stamps, as `1h`, `37 s` or `7 days`, and its share of all."""
    _, name, share = _most_frequent(timestamp)
    return name, share


def _most_frequent(timestamp: IntArray) -> tuple[int, str, float]:
    """Return the most frequent spacing in nanoseconds and as text, and its share of all."""
    spacing, count = np.unique(np.diff(timestamp), return_counts=True)
    found_ns = int(spacing[count.argmax()])
    plain = f"{found_ns / DAY_NS:g} days" if found_ns > DAY_NS else f"{found_ns / 1e9:g} s"
    return found_ns, timeframe_name(found_ns) or plain, float(count.max() / count.sum())


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
    open_, high, low, close, volume, tradable, spread = stacked
    symbols = tuple(part.symbols[0] for part in parts)
    timeframe = parts[0].timeframe
    end = nominal_end(axis, timeframe)
    traded = tradable.astype(np.bool_)
    return Bars(symbols, timeframe, axis, end, open_, high, low, close, volume, traded, spread)


def _on_axis(part: Bars, axis: IntArray) -> tuple[NDArray[np.generic], ...]:
    """Return open, high, low, close, volume, tradable and spread (T, 1) of one symbol on axis."""
    row = np.searchsorted(part.timestamp, axis, side="right") - 1
    tradable = (part.timestamp[row] == axis)[:, None]
    close = part.close[row]
    prices = (np.where(tradable, column[row], close) for column in (part.open, part.high, part.low))
    return (*prices, close, np.where(tradable, part.volume[row], 0.0), tradable, part.spread[row])


def bars_fingerprint(bars: Bars) -> str:
    """Return the SHA-256 over names, timeframe, stamps, prices, volume, tradability and any spread."""
    arrays = [bars.timestamp, bars.bar_end, bars.open, bars.high, bars.low, bars.close, bars.volume]
    quoted = [bars.spread] if bars.spread.any() else []
    content = hash_arrays([*arrays, bars.tradable, *quoted])
    return hash_object([list(bars.symbols), bars.timeframe, content])


def utc_text(stamp_ns: int) -> str:
    """Return a UTC stamp as text, to the second."""
    return f"{np.datetime64(int(stamp_ns), 'ns').astype('datetime64[s]')}Z"
