"""Coarser bars merged from finer ones; each is known no earlier than the end of its last part."""

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import Bars, select_rows
from optimize.data.sessions import SessionTable
from optimize.data.timeframes import DAY_NS, TIMEFRAME_NS, timeframe_ns
from optimize.errors import BadInputError

PartSpans = tuple[
    IntArray, IntArray, IntArray
]  # (T,) key, start and planned end of the bar that each part belongs to


def resample(bars: Bars, timeframe: str, table: SessionTable) -> Bars:
    """Return bars of a coarser timeframe; an incomplete last bar is left out.

    Bars are anchored at UTC midnight on calendar 24/7 and at the session's open on all others. A 1d bar
    covers one session and is stamped at its first part or the session's open, whichever is earlier. Prints
    after the close belong to no 1d bar, and to bars of their own at other timeframes: the session's bars are
    already known then.
    """
    if timeframe == bars.timeframe:
        return bars
    reason = resampling_error(bars.timeframe, timeframe)
    if reason is not None:
        raise BadInputError(": ".join(reason))
    source_ns, target_ns = timeframe_ns(bars.timeframe), timeframe_ns(timeframe)
    known_until = bars.bar_end[-1]
    if target_ns == DAY_NS:
        bars = _until_close(bars, table)
        key, start, planned = _session_spans(bars, table)
    elif table.calendar == "24/7":  # its sessions begin at UTC midnight; others are anchored to their open
        key, start, planned = _clock_spans(bars, table, target_ns)
    else:
        key, start, planned = _anchored_spans(bars, table, source_ns, target_ns)
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    if planned[first[-1]] > known_until:
        first, stop = first[:-1], int(first[-1])
    else:
        stop = bars.n_bars
    if not len(first):
        raise BadInputError(
            f"data.timeframe={timeframe} leaves no complete bar of {bars.n_bars} at {bars.timeframe}: "
            "use more data"
        )
    return _merge(bars, timeframe, first, stop, start[first], planned[first])


def resampling_error(source: str, timeframe: str) -> tuple[str, str] | None:
    """Return why a timeframe cannot be made from the source's bars, and the remedy; None if it can."""
    source_ns, target_ns = timeframe_ns(source), timeframe_ns(timeframe)
    lengths = TIMEFRAME_NS.items()
    multiples = [name for name, length_ns in lengths if length_ns > source_ns and length_ns % source_ns == 0]
    coarser = f", or coarser ({', '.join(multiples)})" if multiples else ""
    remedy = f"set data.timeframe={source}{coarser}"
    if target_ns < source_ns:
        return f"data.timeframe={timeframe} is finer than the source's {source}", remedy
    if target_ns % source_ns:
        return f"data.timeframe={timeframe} is not a multiple of the source's {source}", remedy
    return None


def _clock_spans(bars: Bars, table: SessionTable, target_ns: int) -> PartSpans:
    """Divide each UTC day into bars from midnight; the last is shorter if they do not divide the day."""
    midnight = bars.timestamp // DAY_NS * DAY_NS
    start = midnight + (bars.timestamp - midnight) // target_ns * target_ns
    end = np.minimum(start + target_ns, midnight + DAY_NS)
    return start, start, _before_closing(table, start, end)


def _anchored_spans(bars: Bars, table: SessionTable, source_ns: int, target_ns: int) -> PartSpans:
    """Divide each session into bars from its open, or from the last source bar start before the open."""
    phase_count = np.unique(bars.timestamp % source_ns, return_counts=True)
    phase = int(phase_count[0][phase_count[1].argmax()])
    session = table.index(bars)
    opened = table.open_ns[session]
    anchor = (opened - phase) // source_ns * source_ns + phase
    start = anchor + (bars.timestamp - anchor) // target_ns * target_ns
    end = start + target_ns
    planned = _before_closing(table, start, end)
    late = bars.timestamp >= planned  # a print after the close would move the end of a bar already known
    start, planned = np.where(late, planned, start), np.where(late, end, planned)
    return start, start, planned


def _until_close(bars: Bars, table: SessionTable) -> Bars:
    """Leave out prints after the close of their session: its daily bar is already known then."""
    kept = bars.timestamp < table.close_ns[table.index(bars)]
    return bars if kept.all() else select_rows(bars, kept)


def _session_spans(bars: Bars, table: SessionTable) -> PartSpans:
    """Assign the parts of each session to one bar."""
    session = table.index(bars)
    first = np.searchsorted(session, session)
    start = np.minimum(bars.timestamp[first], table.open_ns[session])
    return session, start, table.close_ns[session]


def _before_closing(table: SessionTable, start: IntArray, end: IntArray) -> IntArray:
    """End each bar at a close inside it, unless the next session opens inside it as well."""
    row = np.searchsorted(table.close_ns, start, side="right")
    close, reopen = table.close_ns[row], table.open_ns[row + 1]
    return np.where((close < end) & (reopen >= end), close, end)


def _merge(
    bars: Bars, timeframe: str, first: IntArray, stop: int, start: IntArray, planned: IntArray
) -> Bars:
    """Merge the parts [first[i], first[i + 1]) of each bar; parts without a trade set no price.

    The spread is that of the first traded part, because orders fill at the open.
    """
    last = np.append(first[1:], stop) - 1
    end = planned.copy()
    end[:-1] = np.minimum(end[:-1], bars.timestamp[first[1:]])
    end = np.maximum(end, bars.bar_end[last])
    start = start.copy()
    start[1:] = np.maximum(start[1:], end[:-1])
    traded = bars.tradable[:stop]
    tradable = np.logical_or.reduceat(traded, first, axis=0)
    close = bars.close[last]
    high = np.maximum.reduceat(np.where(traded, bars.high[:stop], -np.inf), first, axis=0)
    low = np.minimum.reduceat(np.where(traded, bars.low[:stop], np.inf), first, axis=0)
    return Bars(
        symbols=bars.symbols,
        timeframe=timeframe,
        timestamp=start,
        bar_end=end,
        open=np.where(tradable, _at_first_trade(bars.open[:stop], traded, first), close),
        high=np.where(tradable, high, close),
        low=np.where(tradable, low, close),
        close=close,
        volume=np.add.reduceat(bars.volume[:stop], first, axis=0),
        tradable=tradable,
        spread=np.where(tradable, _at_first_trade(bars.spread[:stop], traded, first), bars.spread[last]),
    )


def _at_first_trade(values: FloatArray, traded: BoolArray, first: IntArray) -> FloatArray:
    """Return the values (B, A) of the first traded part of each bar, of the last part if none traded."""
    rows = np.arange(len(values))[:, None]
    row = np.minimum.reduceat(np.where(traded, rows, len(values) - 1), first, axis=0)
    return np.take_along_axis(values, row, axis=0)
