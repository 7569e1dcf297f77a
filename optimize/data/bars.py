"""Price bars of one or more symbols on one time axis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.timeframes import DAY_NS, HOUR_NS, timeframe_name, timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_arrays, hash_object

SERIES = ("timestamp", "bar_end", "open", "high", "low", "close", "volume", "tradable", "spread")
LATE_NS = 13 * HOUR_NS  # after the start of a daily bar its date is that of most of the bar, in any time zone


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """OHLCV bars of A symbols; an untradable bar carries the last close and zero volume."""

    symbols: tuple[str, ...]  # A names
    timeframe: str
    timestamp: IntArray  # (T,) UTC nanoseconds, start of the bar
    bar_end: (
        IntArray  # (T,) UTC nanoseconds; the whole row is known then, not later than the next row's start
    )
    open: FloatArray  # (T, A)
    high: FloatArray  # (T, A)
    low: FloatArray  # (T, A)
    close: FloatArray  # (T, A)
    volume: FloatArray  # (T, A)
    tradable: BoolArray  # (T, A)
    spread: FloatArray  # (T, A) quoted ask - bid in units of the price; 0 if the source has none

    @property
    def n_bars(self) -> int:
        """Return T."""
        return len(self.timestamp)


@dataclass(frozen=True, slots=True, eq=False)
class RawBars:
    """Rows of one symbol as read from a source, before any check."""

    symbol: str
    source: str  # path of the file, or name of the generator
    timestamp: IntArray  # (R,) UTC nanoseconds, start of the bar
    ohlcv: FloatArray  # (R, 5)
    spread: FloatArray  # (R,) quoted ask - bid in units of the price; 0 if the source has none
    timeframe: str | None = None  # None: inferred from the spacing
    has_volume: bool = True  # False: the source has no volume column and volume is 0
    assumptions: tuple[str, ...] = ()  # sentences for the user on choices made while reading
    clock: str | None = None  # data.time_zone applied to timestamps without a zone; None: they had one


def make_bars(raw: RawBars, zero_volume: str = "untradable") -> Bars:
    """Convert rows that passed the checks of quality.rows into bars.

    All bars are tradable, except those without volume in a source that has volume (unless zero_volume is
    "tradable"): these carry the last close, like any bar without a trade.
    """
    timeframe = raw.timeframe or infer_timeframe(raw.timestamp)
    columns = (np.ascontiguousarray(column[:, None]) for column in (*raw.ohlcv.T, raw.spread))
    open_, high, low, close, volume, spread = columns
    traded = np.ones_like(close, dtype=np.bool_)
    if zero_volume == "untradable":
        traded = ~is_stale(raw.ohlcv)[:, None]
        last = np.maximum.accumulate(np.where(traded[:, 0], np.arange(len(traded)), 0))
        close = close[last]
        open_, high, low = (np.where(traded, prices, close) for prices in (open_, high, low))
    end = nominal_end(raw.timestamp, timeframe)
    return Bars((raw.symbol,), timeframe, raw.timestamp, end, open_, high, low, close, volume, traded, spread)


def is_stale(ohlcv: FloatArray) -> BoolArray:
    """Return which rows (R,) of ohlcv (R, 5) have no volume although the source has volume.

    A source counts as having volume from its first row with any. If more than half of the rows since then
    have none (volume that is quoted only now and then), only rows whose price did not move either are stale.
    Only the row itself and earlier rows are used.
    """
    silent = ohlcv[:, 4] == 0
    has_volume = np.logical_or.accumulate(~silent)
    rows, silent_rows = np.cumsum(has_volume), np.cumsum(has_volume & silent)
    still = ohlcv[:, 1] == ohlcv[:, 2]
    stale: BoolArray = has_volume & silent & (still | (2 * silent_rows <= rows))
    return stale


def select_rows(bars: Bars, kept: BoolArray) -> Bars:
    """Return the bars selected by the mask kept (T,)."""
    return replace(bars, **{name: getattr(bars, name)[kept] for name in SERIES})


def nominal_end(timestamp: IntArray, timeframe: str) -> IntArray:
    """Return start + timeframe, but at most the next start (a local day has 23 h when clocks go forward)."""
    end = timestamp + timeframe_ns(timeframe)
    end[:-1] = np.minimum(end[:-1], timestamp[1:])
    return end


def infer_timeframe(timestamp: IntArray) -> str:
    """Return the timeframe equal to the most frequent spacing of the timestamps; refuse any other spacing."""
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
    """Return the most frequent spacing as text (`1h`, `37 s`, `7 days`) and its share of all spacings."""
    _, name, share = _most_frequent(timestamp)
    return name, share


def usual_spacing_ns(timestamp: IntArray) -> int:
    """Return the most frequent spacing in nanoseconds; one day if there are fewer than two timestamps."""
    return _most_frequent(timestamp)[0] if len(timestamp) > 1 else DAY_NS


def _most_frequent(timestamp: IntArray) -> tuple[int, str, float]:
    """Return the most frequent spacing in nanoseconds and as text, and its share of all spacings."""
    spacing, count = np.unique(np.diff(timestamp), return_counts=True)
    found_ns = int(spacing[count.argmax()])
    plain = f"{found_ns / DAY_NS:g} days" if found_ns > DAY_NS else f"{found_ns / 1e9:g} s"
    return found_ns, timeframe_name(found_ns) or plain, float(count.max() / count.sum())


def join_bars(parts: Sequence[Bars]) -> Bars:
    """Join bars of single symbols on one time axis (outer join), from the first time all of them have a bar.

    A row is known when the last of its bars has ended, and no row begins before the previous one is known.
    Intraday bars share a row if they begin together; bars that overlap without beginning together are
    refused. Daily bars share the row of their date. If a bar began before the previous row was known, its
    open is set to its close: an order decided on the previous row cannot be filled at an earlier price.
    """
    if len(parts) == 1:
        return parts[0]
    _refuse_mixed_timeframes(parts)
    timeframe = parts[0].timeframe
    daily = timeframe_ns(timeframe) == DAY_NS
    keys = [_dates(part) if daily else part.timestamp for part in parts]
    axis = np.unique(np.concatenate(keys))
    axis = axis[axis >= max(int(key[0]) for key in keys)]
    fields = [_on_axis(part, key, axis) for part, key in zip(parts, keys, strict=True)]
    stacked = [np.concatenate(columns, axis=1) for columns in zip(*fields, strict=True)]
    open_, high, low, close, volume, tradable, spread, began, ended = stacked
    start, end = began.min(axis=1), ended.max(axis=1)
    if daily:
        end = np.maximum(end, _expected_ends(parts, keys, axis, ended))
        before = np.append(start[0], end[:-1])  # when the row above is known
        open_ = np.where(began < before[:, None], close, open_)
        start = np.maximum(start, before)
    else:
        _refuse_overlap(parts, start, end)
    symbols = tuple(part.symbols[0] for part in parts)
    traded = tradable.astype(np.bool_)
    joined = Bars(symbols, timeframe, start, end, open_, high, low, close, volume, traded, spread)
    return select_rows(joined, end <= max(int(part.bar_end[-1]) for part in parts))


def _expected_ends(
    parts: Sequence[Bars], keys: Sequence[IntArray], axis: IntArray, ended: IntArray
) -> IntArray:
    """Return when each daily row (T,) would be known if every symbol had a bar.

    The absence of a bar is known no earlier than its end, so a row does not change when a late bar arrives.
    The missing bar is assumed to end at the same time of day as the previous one, within the hour of a clock
    change.
    """
    last_end = np.full(len(axis), np.iinfo(np.int64).min)
    for asset, (part, key) in enumerate(zip(parts, keys, strict=True)):
        row = np.searchsorted(key, axis, side="right") - 1
        expected = axis + (part.bar_end - key)[row]
        apart = np.abs(ended - expected[:, None]).min(axis=1)
        absent = ended[:, asset] == np.iinfo(np.int64).min
        last_end = np.where(absent & (apart > HOUR_NS), np.maximum(last_end, expected), last_end)
    return last_end


def _refuse_mixed_timeframes(parts: Sequence[Bars]) -> None:
    """Refuse symbols whose bars differ in length."""
    if len({part.timeframe for part in parts}) > 1:
        found = ", ".join(f"{part.symbols[0]} {part.timeframe}" for part in parts)
        raise BadInputError(
            f"the files of data.symbols differ in timeframe ({found}): use files of one timeframe"
        )


def _dates(part: Bars) -> IntArray:
    """Return the date of each daily bar as UTC midnight (T,); refuse two bars of one date."""
    dates = dates_of(part.timestamp)
    twice = np.flatnonzero(np.diff(dates) == 0)
    if len(twice):
        first, second = (utc_text(part.timestamp[twice[0] + row]) for row in (0, 1))
        raise BadInputError(
            f"{part.symbols[0]} has two daily bars of one date ({first} and {second}), which cannot share a "
            "row with the bars of other data.symbols: keep one bar a day"
        )
    return dates


def dates_of(timestamp: IntArray) -> IntArray:
    """Return the date of daily bars that begin at timestamp, as UTC midnight (T,).

    A bar stamped 00:00Z has that date. Any other bar, for example stamped at local midnight or at the roll of
    the FX day, has the date on which most of it lies (13 hours are past the middle of any day). Bars stamped
    at a market's open after 11:00Z would be moved to the next day; they are recognised by dates on Saturdays.
    """
    day = timestamp // DAY_NS
    shifted = np.where(timestamp % DAY_NS == 0, day, (timestamp + LATE_NS) // DAY_NS)
    label = day if _on_saturday(shifted) > 2 * _on_saturday(day) + 1 else shifted
    return np.asarray(label * DAY_NS, dtype=np.int64)


def _on_saturday(day: IntArray) -> int:
    """Return how many of the days, counted from 1970-01-01 (a Thursday), are Saturdays."""
    return int((day % 7 == 2).sum())


def _on_axis(part: Bars, key: IntArray, axis: IntArray) -> tuple[NDArray[np.generic], ...]:
    """Return a symbol's open, high, low, close, volume, tradable, spread, start and end (T, 1) on the axis.

    Without a bar, start is the largest integer and end the smallest.
    """
    row = np.searchsorted(key, axis, side="right") - 1
    present = (key[row] == axis)[:, None]
    close = part.close[row]
    prices = (np.where(present, column[row], close) for column in (part.open, part.high, part.low))
    volume, tradable = np.where(present, part.volume[row], 0.0), present & part.tradable[row]
    start = np.where(present, part.timestamp[row, None], np.iinfo(np.int64).max)
    end = np.where(present, part.bar_end[row, None], np.iinfo(np.int64).min)
    return (*prices, close, volume, tradable, part.spread[row], start, end)


def _refuse_overlap(parts: Sequence[Bars], start: IntArray, end: IntArray) -> None:
    """Refuse rows (T,) that begin before a bar of the previous row has ended."""
    overlap = np.flatnonzero(end[:-1] > start[1:])
    if not len(overlap):
        return
    row = int(overlap[0])
    begun, ended, following = int(start[row]), int(end[row]), int(start[row + 1])
    earlier = next(part for part in parts if ended in part.bar_end[part.timestamp == begun])
    later = next(part for part in parts if following in part.timestamp)
    timeframe = parts[0].timeframe
    raise BadInputError(
        f"data.symbols: {timeframe} bars overlap without beginning together: {later.symbols[0]} begins one "
        f"at {utc_text(following)}, inside that of {earlier.symbols[0]} from {utc_text(begun)} to "
        f"{utc_text(ended)} ({len(overlap):,} of {len(start):,} rows). A bar is known at its own end, so "
        f"such bars make no common row: use finer bars of every symbol, which data.timeframe={timeframe} "
        "merges into bars that begin together, or data.symbols of one grid"
    )


def bars_fingerprint(bars: Bars) -> str:
    """Return the SHA-256 of symbols, timeframe, timestamps, prices, volume, tradability and any spread."""
    arrays = [bars.timestamp, bars.bar_end, bars.open, bars.high, bars.low, bars.close, bars.volume]
    quoted = [bars.spread] if bars.spread.any() else []
    content = hash_arrays([*arrays, bars.tradable, *quoted])
    return hash_object([list(bars.symbols), bars.timeframe, content])


def utc_text(stamp_ns: int) -> str:
    """Return a UTC timestamp as text, to the second."""
    return f"{np.datetime64(int(stamp_ns), 'ns').astype('datetime64[s]')}Z"
