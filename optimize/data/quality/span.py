"""Checks of time: the span that bars cover, future and unfinished bars, repeated dates, mixed spacings."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from optimize.data.bars import Bars, RawBars, select_rows, utc_text
from optimize.data.period import Period, period_of
from optimize.data.quality.findings import QualityFinding, duration_text, make_finding, pluralise
from optimize.data.quality.rows import MIN_BARS
from optimize.data.sessions import SessionTable
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, timeframe_ns

GRACE_DAYS = 7  # a download counts its months from its own date, which may be days after the last bar
MONTHS_A_DAY = 12 / 365.25
AROUND_NS = 120 * DAY_NS  # longer than the 65 sessions around a bar that jump checks read

Part = tuple[RawBars, Bars]  # rows as read, and the bars made from the valid ones
STRETCH = 10  # consecutive bars at another spacing
SHOWN_STRETCHES = 3
FEW_CLOCKS = 3  # times of day of daily bars; local midnight has two a year


def parts_of_period(parts: Sequence[Part], data: DataSpec) -> tuple[list[Part], list[QualityFinding]]:
    """Return the bars of the selected period, and findings on symbols without enough of them."""
    if not parts or (data.start is None and data.end is None and data.months is None):
        return list(parts), []
    period = period_of(data, max(int(bars.bar_end[-1]) for _, bars in parts))
    recent, ended = [], []
    for raw, bars in parts:
        kept = period.holds(raw.timestamp, bars.timeframe)
        if kept.sum() >= MIN_BARS:
            late = replace(raw, timestamp=raw.timestamp[kept], ohlcv=raw.ohlcv[kept], spread=raw.spread[kept])
            recent.append((late, select_rows(bars, kept)))
        else:
            ended.append(_ended(raw, int(kept.sum()), period, alone=len(parts) == 1))
    return recent, ended


def with_surroundings(bars: Bars, whole: Part, earliest_ns: int | None = None) -> Part:
    """Return the rows of a period and those around it, from earliest_ns on.

    A jump is judged by the weeks around it, so that every period containing it yields the same finding.
    """
    raw, every = whole
    first = int(bars.timestamp[0]) - AROUND_NS
    first = first if earliest_ns is None else max(first, earliest_ns)
    near = (raw.timestamp >= first) & (raw.timestamp <= bars.timestamp[-1] + AROUND_NS)
    near |= np.isin(raw.timestamp, bars.timestamp)
    if near.all():
        return whole
    rows = replace(raw, timestamp=raw.timestamp[near], ohlcv=raw.ohlcv[near], spread=raw.spread[near])
    return rows, select_rows(every, near)


def _ended(raw: RawBars, late: int, period: Period, *, alone: bool) -> QualityFinding:
    """Return the finding that a symbol, which may be the only one, has too few bars in the period."""
    left = pluralise(late, "bar") if late else "no bar"
    found = f"it has {left} in the span of {period.asked}"
    longer = "another period"
    if period.asked.startswith("data.months") and period.start_ns is not None:
        found = f"it ended, with {left} in the last {period.asked}, which begin {utc_text(period.start_ns)}"
        longer = "raise data.months"
    remedy = (
        f"get newer bars, {longer} or leave it out of data.symbols; with data.severity.ended=warn it is "
        "there and never trades"
    )
    if alone:  # without its only symbol a data set is empty
        first, last = utc_text(raw.timestamp.min()), utc_text(raw.timestamp.max())
        found += f", and its bars are of {first} to {last}"
        remedy = (
            "set data.start and data.end inside that span (null: no limit), data.months, or get newer bars"
        )
    return make_finding("ended", raw, raw.timestamp[-1:], found, remedy, count=max(1, late))


def short_findings(parts: Sequence[Part], table: SessionTable, data: DataSpec) -> Iterator[QualityFinding]:
    """Yield a finding on symbols that begin later than the first session of the selected period."""
    end = max(int(bars.bar_end[-1]) for _, bars in parts)
    period = period_of(data, end)
    if period.start_ns is None:
        return
    row = np.searchsorted(table.close_ns, period.start_ns, side="right")
    opened = max(period.start_ns, int(table.open_ns[row]))
    for raw, bars in parts:
        first = int(bars.timestamp[0])
        if first - opened > GRACE_DAYS * DAY_NS:
            came = f"{(end - first) / DAY_NS * MONTHS_A_DAY:.3g} found"
            if data.start is not None:
                came = f"the first bar is of {utc_text(first)}"
            less = "for fewer months" if data.start is None else "for a later data.start"
            remedy = f"get more data, or ask {less}"
            if provider_of(data).download is not None:
                remedy = f"walkforge data fetches older bars where the source has any; else ask {less}"
            yield make_finding("short", raw, bars.timestamp[:1], f"{period.asked} asked for, {came}", remedy)


def ragged_findings(parts: Sequence[Part], table: SessionTable) -> Iterator[QualityFinding]:
    """Yield a finding on symbols that begin or end at another bar than most; daily bars compare by date."""
    if len(parts) < 2:
        return
    for edge, word in ((0, "begins"), (-1, "ends")):
        stamps = np.array([_begin(bars, edge, table) for _, bars in parts])
        values, counts = np.unique(stamps, return_counts=True)
        usual = int(values[counts == counts.max()][-1])
        for (raw, bars), stamp in zip(parts, stamps, strict=True):
            apart = int(stamp) - usual
            if apart:
                when = f"{duration_text(abs(apart))} {'after' if apart > 0 else 'before'} the others"
                remedy = (
                    "no symbol has bars before the last one begins"
                    if edge == 0
                    else "those that have ended keep their last close and do not trade"
                )
                count = max(1, abs(apart) // timeframe_ns(bars.timeframe))
                found = f"{word} {when} ({pluralise(count, 'bar')} of {bars.timeframe})"
                span = bars.timestamp[edge : edge + 1] if edge == 0 else bars.timestamp[-1:]
                yield make_finding("ragged", raw, span, found, remedy, count=count)


def _begin(bars: Bars, edge: int, table: SessionTable) -> int:
    """Return the start of the first (0) or last (-1) bar; for daily bars, its date as UTC midnight."""
    if timeframe_ns(bars.timeframe) < DAY_NS:
        return int(bars.timestamp[edge])
    (day,) = table.day_of(bars.timestamp[[edge]], bars.bar_end[[edge]], bars.timeframe)
    return int(day.astype("datetime64[ns]").astype(np.int64))


def stale_findings(raw: RawBars, bars: Bars, now_ns: int, max_age: float | None) -> Iterator[QualityFinding]:
    """Yield a finding if the last bar ended more than max_age days ago."""
    age = age_days(bars, now_ns)
    if max_age is not None and age > max_age:
        found = f"the last bar ended {age:,.1f} days ago, more than data.max_age={max_age:g}"
        remedy = "data.refresh=true where a provider has newer ones, a newer file, or a larger data.max_age"
        yield make_finding("stale", raw, bars.timestamp[-1:], found, remedy)


def age_days(bars: Bars, now_ns: int) -> float:
    """Return the days from the end of the last bar to now."""
    return (now_ns - int(bars.bar_end[-1])) / DAY_NS


def stamp_findings(raw: RawBars, bars: Bars, table: SessionTable, now_ns: int) -> list[QualityFinding]:
    """Return the findings on timestamps that do not depend on the calendar's hours."""
    return [*_future(raw, bars, now_ns), *_spacing(raw, bars), *_session_twice(raw, bars, table)]


def _future(raw: RawBars, bars: Bars, now_ns: int) -> Iterator[QualityFinding]:
    """Yield a finding on bars after now, or on a last bar that has not ended or has an unusual timestamp."""
    late = bars.timestamp > now_ns
    if late.any():
        found = f"{pluralise(int(late.sum()), 'bar')} begin after now ({utc_text(now_ns)})"
        remedy = "check data.time_zone, or leave them out"
        yield make_finding("future", raw, raw.timestamp[late], found, remedy)
        return
    last = raw.timestamp[-1:]
    if int(bars.bar_end[-1]) > now_ns:
        found = f"the last bar ends in {duration_text(int(bars.bar_end[-1]) - now_ns)}"
        yield make_finding("unfinished", raw, last, found, "leave it out until it has ended")
    elif _unlike_all_others(bars):
        found = f"the last bar is stamped {utc_text(last[0])}, unlike all others: it may still have traded"
        yield make_finding(
            "unfinished", raw, last, found, "leave it out, or stamp it with the start of its bar"
        )


def _unlike_all_others(bars: Bars) -> bool:
    """Return whether the last daily bar has a time of day that no other bar has."""
    clock = bars.timestamp % DAY_NS
    few = len(np.unique(clock[:-1])) <= FEW_CLOCKS < len(clock)
    return timeframe_ns(bars.timeframe) == DAY_NS and few and clock[-1] not in clock[:-1]


def _session_twice(raw: RawBars, bars: Bars, table: SessionTable) -> Iterator[QualityFinding]:
    """Yield a finding on daily rows with the date of the previous row."""
    if timeframe_ns(bars.timeframe) != DAY_NS:
        return
    day = table.day_of(bars.timestamp, bars.timestamp + DAY_NS, bars.timeframe)
    again = np.append(False, day[1:] == day[:-1])
    if again.any():
        found = f"{pluralise(int(again.sum()), 'daily row')} of the date of the row before"
        yield make_finding(
            "session_twice", raw, raw.timestamp[again], found, "keep one row a date, the final one"
        )


def _spacing(raw: RawBars, bars: Bars) -> Iterator[QualityFinding]:
    """Yield a finding on stretches of bars at a constant spacing other than the timeframe."""
    spacing = np.diff(bars.timestamp)
    edge = np.flatnonzero(np.diff(spacing)) + 1
    start, stop = np.append(0, edge), np.append(edge, len(spacing))
    other = (stop - start >= STRETCH) & (spacing[start] != timeframe_ns(bars.timeframe))
    if not other.any():
        return
    shown = ", ".join(
        f"{duration_text(int(spacing[a]))} from {utc_text(bars.timestamp[a])} "
        f"to {utc_text(bars.timestamp[b])}"
        for a, b in zip(start[other][:SHOWN_STRETCHES], stop[other][:SHOWN_STRETCHES], strict=True)
    )
    found = f"bars of {bars.timeframe}, but {shown} apart"
    remedy = (
        "give the file one spacing: resample the finer part, or keep one part (data.months, another file)"
    )
    yield make_finding(
        "spacing", raw, bars.timestamp[start[other]], found, remedy, count=int((stop - start)[other].sum())
    )
