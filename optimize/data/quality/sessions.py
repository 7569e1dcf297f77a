"""Checks of bars against a calendar: gaps, bars off the grid, missing exit bars."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, RawBars, select_rows, utc_text
from optimize.data.calendars.spec import SessionSpec
from optimize.data.quality.findings import QualityFinding, duration_text, make_finding, pluralise, share_text
from optimize.data.quality.hours import clock_findings, outside_findings
from optimize.data.sessions import SessionTable, missing_exits, open_time
from optimize.data.timeframes import DAY_NS, timeframe_ns
from optimize.errors import BadInputError

MAJORITY_OFF_GRID = 0.5
LONGEST_GAPS = 3  # of the longest gaps
LISTED_DATES = 10


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Stretches of open market time without bars."""

    before: IntArray  # (G,) start of the last bar before the gap
    after: IntArray  # (G,) start of the first bar after the gap
    open_ns: IntArray  # (G,) open market time in the gap
    bars: IntArray  # (G,) bars that would fill the gap
    sessions: IntArray  # calendar rows with a missing bar, without repeats


def gaps_of(bars: Bars, table: SessionTable) -> Gaps:
    """Return the gaps: for daily bars sessions without a bar, else open time between two bars."""
    start, end = bars.bar_end[:-1], bars.timestamp[1:]
    length_ns = timeframe_ns(bars.timeframe)
    open_ns = open_time(table, end) - open_time(table, start)
    if length_ns == DAY_NS:
        row = table.index(bars)
        missing, first, stop = np.diff(row) - 1, row[:-1] + 1, row[1:]
    else:
        missing = -(-open_ns // length_ns)
        first = np.searchsorted(table.close_ns, start, side="right")
        stop = np.searchsorted(table.open_ns, end, side="left")
    chosen = missing > 0
    spans = [np.arange(*span) for span in zip(first[chosen], stop[chosen], strict=True)]
    sessions = np.unique(np.concatenate(spans)) if spans else np.empty(0, dtype=np.int64)
    before = bars.timestamp[:-1]
    return Gaps(before[chosen], end[chosen], open_ns[chosen], missing[chosen], sessions)


def calendar_findings(
    raw: RawBars, bars: Bars, table: SessionTable, max_gap_days: float, *, auto: bool, alone: bool = True
) -> list[QualityFinding]:
    """Return the findings of one symbol against its calendar; auto: the calendar was inferred from the bars.

    alone: no other symbol has bars that must begin together with these.
    """
    outside = outside_sessions(bars.timestamp, bars, table)
    misread = list(clock_findings(raw, bars, table, outside, auto=auto))
    if misread:  # gaps and bars outside are consequences of the wrong reading
        return misread
    sessions = int(np.ptp(table.index(bars)[[0, -1]])) + 1
    gaps = _gaps(raw, gaps_of(bars, table), sessions, max_gap_days)
    return [*_off_grid(raw, bars, table, alone=alone), *gaps, *outside_findings(raw, bars, table, outside)]


def outside_sessions(timestamp: IntArray, bars: Bars, table: SessionTable) -> BoolArray:
    """Return which bars (T,), if they began at timestamp, would contain no open market time."""
    end = timestamp + (bars.bar_end - bars.timestamp)
    if timeframe_ns(bars.timeframe) == DAY_NS:
        shut: BoolArray = ~np.isin(table.day_of(timestamp, end, bars.timeframe), table.date)
        return shut
    closed: BoolArray = open_time(table, end) == open_time(table, timestamp)
    return closed


def select_session_bars(bars: Bars, table: SessionTable, spec: SessionSpec) -> Bars:
    """Return the bars, without those outside the sessions if session.outside=drop."""
    if spec.outside == "keep":
        return bars
    outside = outside_sessions(bars.timestamp, bars, table)
    if outside.all():
        raise BadInputError(
            f"session.outside=drop leaves no bar: all {bars.n_bars:,} are outside the sessions of "
            f"{table.calendar}; set session.calendar or data.time_zone"
        )
    return select_rows(bars, ~outside) if outside.any() else bars


def _gaps(raw: RawBars, gaps: Gaps, sessions: int, max_gap_days: float) -> Iterator[QualityFinding]:
    """Yield a finding on holes (very long gaps) and one on all other gaps, naming the longest of each."""
    hole = gaps.after - gaps.before > max_gap_days * DAY_NS
    if hole.any():
        remedy = "take one side of it (another file, data.months), or raise data.max_gap_days"
        found = f"{pluralise(int(hole.sum()), 'hole')} of more than {max_gap_days:g} days"
        yield make_finding("hole", raw, gaps.before[hole], f"{found}: {_longest(gaps, hole)}", remedy)
    rest = ~hole
    if rest.any():
        where = "" if hole.any() else f" in {len(gaps.sessions):,} of {pluralise(sessions, 'session')}"
        missing = f"{pluralise(int(gaps.bars[rest].sum()), 'bar')} missing{where}"
        found = f"{pluralise(int(rest.sum()), 'gap')} in open market time, {missing}: {_longest(gaps, rest)}"
        yield make_finding(
            "gaps", raw, gaps.before[rest], found, "get the bars; else a position sits through them"
        )


def _longest(gaps: Gaps, chosen: BoolArray) -> str:
    """Return the longest of the chosen gaps as text."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-gaps.bars[rows], kind="stable")]
    listed = ", ".join(
        f"{duration_text(int(gaps.after[row] - gaps.before[row]))} after {utc_text(gaps.before[row])} "
        f"({pluralise(int(gaps.bars[row]), 'bar')})"
        for row in rows[:LONGEST_GAPS]
    )
    return listed if len(rows) == 1 else f"the longest {listed}"


def _off_grid(raw: RawBars, bars: Bars, table: SessionTable, *, alone: bool) -> Iterator[QualityFinding]:
    """Yield a finding on intraday bars that are off the grid of their timeframe.

    Grid points are multiples of the timeframe from midnight (UTC or local) and from the start of each stretch
    of trading.
    """
    length_ns = timeframe_ns(bars.timeframe)
    if length_ns >= DAY_NS:
        return
    local = pd.DatetimeIndex(bars.timestamp, tz="UTC").tz_convert(table.time_zone).tz_localize(None)
    row = np.searchsorted(table.stretches[:, 0], bars.timestamp, side="right") - 1
    clocks = (bars.timestamp, local.asi8, bars.timestamp - table.stretches[row, 0])
    off = np.all([clock % length_ns != 0 for clock in clocks], axis=0)
    if not off.any():
        return
    late = int(np.median(bars.timestamp[off] % length_ns))
    found = f"{share_text(off)} off the grid of {bars.timeframe}, in the median {duration_text(late)} past it"
    remedy = "drop these rows or stamp them with the start of their bar; they cut the bar before them short"
    if off.mean() > MAJORITY_OFF_GRID:
        remedy = "stamp the rows with the start of their bars"
        if alone:
            remedy += "; where their bars do begin so, data.severity.off_grid=warn takes them as they are"
    yield make_finding("off_grid", raw, raw.timestamp[off], found, remedy)


def exit_findings(raw: RawBars, bars: Bars, table: SessionTable) -> Iterator[QualityFinding]:
    """Yield a finding on sessions without the bar at or after their forced exit that a full session has."""
    dates = missing_exits(bars, table)
    dates = dates[has_exit_bar(table, bars.timeframe)[np.searchsorted(table.date, dates)]]
    if len(dates):
        row = table.index(bars)
        listed = ", ".join(str(date) for date in dates[:LISTED_DATES])
        more = ", ..." if len(dates) > LISTED_DATES else ""
        found = (
            f"{len(dates):,} of {pluralise(len(np.unique(row)), 'session')} lack a {bars.timeframe} bar at "
            f"or after their forced exit ({listed}{more})"
        )
        stamps = bars.timestamp[np.isin(row, np.searchsorted(table.date, dates))]
        yield make_finding(
            "missing_exit", raw, stamps, found, "they close at their last bar", count=len(dates)
        )


def has_exit_bar(table: SessionTable, timeframe: str) -> BoolArray:
    """Return which sessions (S,) have a bar at or after their exit when divided into bars from the open."""
    length_ns = timeframe_ns(timeframe)
    last = table.open_ns + (table.close_ns - table.open_ns - 1) // length_ns * length_ns
    whole: BoolArray = last >= table.exit_ns
    return whole
