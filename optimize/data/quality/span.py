"""Checks of the span that bars cover: where it begins and ends, against that asked for and that of others."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from optimize.data.bars import Bars, RawBars, select_rows, utc_text
from optimize.data.period import Period, period_of
from optimize.data.providers import provider_of
from optimize.data.quality.findings import Finding, counted, days, find
from optimize.data.quality.rows import MIN_BARS
from optimize.data.sessions import SessionTable
from optimize.data.spec import DAY_NS, DataSpec, timeframe_ns

GRACE_DAYS = 7  # a download counts its months from when it is made, which may be days after the last bar
MONTHS_A_DAY = 12 / 365.25
AROUND_NS = 120 * DAY_NS  # more than the 65 sessions before and after a bar that its jumps are judged by

Part = tuple[RawBars, Bars]  # rows as they came; the bars that they make once broken rows are left out


def parts_of_period(parts: Sequence[Part], data: DataSpec) -> tuple[list[Part], list[Finding]]:
    """Return the bars of the period asked for, before the end of the last bar of all, and who has none."""
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
            ended.append(_ended(raw, int(kept.sum()), period))
    return recent, ended


def with_surroundings(bars: Bars, whole: Part, earliest_ns: int | None = None) -> Part:
    """Return the rows of a period with those around it, as far as the source has any after earliest_ns.

    A jump is judged by the weeks before and after it: so it is the same finding in every period it lies in.
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


def _ended(raw: RawBars, late: int, period: Period) -> Finding:
    """Return that a symbol has but `late` bars, too few, of the period asked for."""
    left = counted(late, "bar") if late else "no bar"
    found = f"it has {left} in the span of {period.asked}"
    longer = "another period"
    if period.asked.startswith("data.months") and period.start_ns is not None:
        found = f"it ended, with {left} in the last {period.asked}, which begin {utc_text(period.start_ns)}"
        longer = "raise data.months"
    remedy = (
        f"get newer bars, {longer} or leave it out of data.symbols; with data.severity.ended=warn it is "
        "there and never trades"
    )
    return find("ended", raw, raw.timestamp[-1:], found, remedy, count=max(1, late))


def short_findings(parts: Sequence[Part], table: SessionTable, data: DataSpec) -> Iterator[Finding]:
    """Yield the symbols that begin later than the first session of the period asked for."""
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
            yield find("short", raw, bars.timestamp[:1], f"{period.asked} asked for, {came}", remedy)


def ragged_findings(parts: Sequence[Part], table: SessionTable) -> Iterator[Finding]:
    """Yield the symbols that begin or end at another bar than most; daily bars are compared by date."""
    if len(parts) < 2:
        return
    for edge, word in ((0, "begins"), (-1, "ends")):
        stamps = np.array([_begin(bars, edge, table) for _, bars in parts])
        values, counts = np.unique(stamps, return_counts=True)
        usual = int(values[counts == counts.max()][-1])
        for (raw, bars), stamp in zip(parts, stamps, strict=True):
            apart = int(stamp) - usual
            if apart:
                when = f"{days(abs(apart))} {'after' if apart > 0 else 'before'} the others"
                remedy = (
                    "no symbol has bars before the last one begins"
                    if edge == 0
                    else "those that have ended keep their last close and do not trade"
                )
                count = max(1, abs(apart) // timeframe_ns(bars.timeframe))
                found = f"{word} {when} ({counted(count, 'bar')} of {bars.timeframe})"
                span = bars.timestamp[edge : edge + 1] if edge == 0 else bars.timestamp[-1:]
                yield find("ragged", raw, span, found, remedy, count=count)


def _begin(bars: Bars, edge: int, table: SessionTable) -> int:
    """Return the stamp of the first (0) or last (-1) bar, of a daily one that of its date."""
    if timeframe_ns(bars.timeframe) < DAY_NS:
        return int(bars.timestamp[edge])
    (day,) = table.day_of(bars.timestamp[[edge]], bars.bar_end[[edge]], bars.timeframe)
    return int(day.astype("datetime64[ns]").astype(np.int64))


def stale_findings(raw: RawBars, bars: Bars, now_ns: int, max_age: float | None) -> Iterator[Finding]:
    """Yield bars that end longer ago than max_age days."""
    age = age_days(bars, now_ns)
    if max_age is not None and age > max_age:
        found = f"the last bar ended {age:,.1f} days ago, more than data.max_age={max_age:g}"
        remedy = "data.refresh=true where a provider has newer ones, a newer file, or a larger data.max_age"
        yield find("stale", raw, bars.timestamp[-1:], found, remedy)


def age_days(bars: Bars, now_ns: int) -> float:
    """Return the days from the end of the last bar to now."""
    return (now_ns - int(bars.bar_end[-1])) / DAY_NS
