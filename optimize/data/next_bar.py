"""The bars that come next: where a calendar puts them, before they have traded."""

from dataclasses import replace

import numpy as np

from optimize.data.bars import Bars
from optimize.data.sessions import SessionTable
from optimize.data.spec import DAY_NS, timeframe_ns

Span = tuple[int, int]  # start and end, UTC nanoseconds


def append_next(bars: Bars, table: SessionTable, count: int) -> Bars:
    """Return the bars with `count` more, at the last close, where the calendar puts the next ones.

    They give an order of the newest bar the place and the session in which it would fill; their prices are
    stand-ins, and no feature of an earlier bar reads them.
    """
    for _ in range(count):
        start, end = next_span(bars, table)
        close = bars.close[-1:]
        bars = replace(
            bars,
            timestamp=np.append(bars.timestamp, start),
            bar_end=np.append(bars.bar_end, end),
            open=np.concatenate([bars.open, close]),
            high=np.concatenate([bars.high, close]),
            low=np.concatenate([bars.low, close]),
            close=np.concatenate([bars.close, close]),
            volume=np.concatenate([bars.volume, bars.volume[-1:]]),
            tradable=np.concatenate([bars.tradable, np.ones_like(bars.tradable[-1:])]),
            spread=np.concatenate([bars.spread, bars.spread[-1:]]),
        )
    return bars


def next_span(bars: Bars, table: SessionTable) -> Span:
    """Return the start and end of the bar after the last one."""
    start, end = int(bars.timestamp[-1]), int(bars.bar_end[-1])
    row = int(table.index(bars)[-1])
    if timeframe_ns(bars.timeframe) == DAY_NS:
        return _next_day(start, end, row, table)
    return _next_intraday(start, end, row, timeframe_ns(bars.timeframe), table)


def _next_day(start: int, end: int, row: int, table: SessionTable) -> Span:
    """Return the next session's bar: by its date where bars are stamped 00:00Z, else as far from its open."""
    if start % DAY_NS == 0:
        begins = int(table.date[row + 1].astype("datetime64[ns]").astype(np.int64))
    else:
        begins = start + int(table.open_ns[row + 1] - table.open_ns[row])
    begins = max(begins, end)
    return begins, begins + (end - start)


def _next_intraday(start: int, end: int, row: int, length_ns: int, table: SessionTable) -> Span:
    """Return the bar that goes on where the market is open, else the first of the next stretch of trading."""
    place = int(np.searchsorted(table.stretches[:, 1], end, side="right"))
    opens = int(table.stretches[place, 0])
    if end >= opens:
        return end, end + length_ns
    anchored = (start - int(table.open_ns[row])) % length_ns == 0
    begins = opens if anchored else opens - (opens - start) % length_ns
    begins = max(begins, end)
    return begins, begins + length_ns
