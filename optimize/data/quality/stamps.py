"""Findings on stamps: bars of the future or of one date, a row that is still trading, changing spacings."""

from collections.abc import Iterator

import numpy as np

from optimize.data.bars import Bars, RawBars, utc_text
from optimize.data.quality.findings import Finding, counted, days, find
from optimize.data.sessions import SessionTable
from optimize.data.spec import DAY_NS, timeframe_ns

STRETCH = 10  # bars in a row at another distance
SHOWN = 3
FEW_CLOCKS = 3  # times of day of daily bars; local midnight has two a year


def stamp_findings(raw: RawBars, bars: Bars, table: SessionTable, now_ns: int) -> list[Finding]:
    """Return what the stamps show, apart from the calendar's hours."""
    return [*_future(raw, bars, now_ns), *_spacing(raw, bars), *_session_twice(raw, bars, table)]


def _future(raw: RawBars, bars: Bars, now_ns: int) -> Iterator[Finding]:
    """Yield bars that begin after now, else a last bar that has not ended or is stamped unlike all others."""
    late = bars.timestamp > now_ns
    if late.any():
        found = f"{counted(int(late.sum()), 'bar')} begin after now ({utc_text(now_ns)})"
        remedy = "check data.time_zone, or leave them out"
        yield find("future", raw, raw.timestamp[late], found, remedy)
        return
    last = raw.timestamp[-1:]
    if int(bars.bar_end[-1]) > now_ns:
        found = f"the last bar ends in {days(int(bars.bar_end[-1]) - now_ns)}"
        yield find("unfinished", raw, last, found, "leave it out until it has ended")
    elif _unlike_all_others(bars):
        found = f"the last bar is stamped {utc_text(last[0])}, unlike all others: it may still have traded"
        yield find("unfinished", raw, last, found, "leave it out, or stamp it with the start of its bar")


def _unlike_all_others(bars: Bars) -> bool:
    """Return whether the last daily bar alone has its time of day."""
    clock = bars.timestamp % DAY_NS
    few = len(np.unique(clock[:-1])) <= FEW_CLOCKS < len(clock)
    return timeframe_ns(bars.timeframe) == DAY_NS and few and clock[-1] not in clock[:-1]


def _session_twice(raw: RawBars, bars: Bars, table: SessionTable) -> Iterator[Finding]:
    """Yield daily rows of the date of the row before."""
    if timeframe_ns(bars.timeframe) != DAY_NS:
        return
    day = table.day_of(bars.timestamp, bars.timestamp + DAY_NS, bars.timeframe)
    again = np.append(False, day[1:] == day[:-1])
    if again.any():
        found = f"{counted(int(again.sum()), 'daily row')} of the date of the row before"
        yield find("session_twice", raw, raw.timestamp[again], found, "keep one row a date, the final one")


def _spacing(raw: RawBars, bars: Bars) -> Iterator[Finding]:
    """Yield stretches of bars that are all alike at another distance than the timeframe."""
    spacing = np.diff(bars.timestamp)
    edge = np.flatnonzero(np.diff(spacing)) + 1
    start, stop = np.append(0, edge), np.append(edge, len(spacing))
    other = (stop - start >= STRETCH) & (spacing[start] != timeframe_ns(bars.timeframe))
    if not other.any():
        return
    shown = ", ".join(
        f"{days(int(spacing[a]))} from {utc_text(bars.timestamp[a])} to {utc_text(bars.timestamp[b])}"
        for a, b in zip(start[other][:SHOWN], stop[other][:SHOWN], strict=True)
    )
    found = f"bars of {bars.timeframe}, but {shown} apart"
    remedy = (
        "give the file one spacing: resample the finer part, or keep one part (data.months, another file)"
    )
    yield find(
        "spacing", raw, bars.timestamp[start[other]], found, remedy, count=int((stop - start)[other].sum())
    )
