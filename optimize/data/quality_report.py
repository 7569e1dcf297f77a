"""The quality report: every check on every symbol of a source, before anything is built on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from optimize.clock import now
from optimize.data.bars import Bars, RawBars, join_bars, make_bars, utc_text
from optimize.data.providers import provider_of
from optimize.data.quality import Finding, find, judge, line, refuse, refused
from optimize.data.quality_calendar import (
    age_days,
    calendar_findings,
    exit_findings,
    ragged_findings,
    stale_findings,
)
from optimize.data.quality_levels import level_findings
from optimize.data.quality_rows import MIN_BARS, clean, row_findings
from optimize.data.resample import resample
from optimize.data.sessions import SessionTable, ends_flat, resolve_calendar, session_table
from optimize.data.spec import CHECKS, DAY_NS, SEVERITIES, DataSpec, SessionSpec, timeframe_ns

Part = tuple[RawBars, Bars]  # rows as they came; the bars that they make once broken rows are left out


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one symbol's bars cover."""

    symbol: str
    source: str
    timeframe: str
    rows: int
    first: str  # UTC start of the first bar
    last: str  # UTC start of the last bar
    days: float  # from the start of the first bar to the end of the last
    age_days: float  # from the end of the last bar to now


@dataclass(frozen=True, slots=True)
class Report:
    """What the bars cover and what is wrong with them, the gravest first."""

    calendar: str | None  # None: no bars to tell it by
    coverage: tuple[Coverage, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Return whether no finding refuses."""
        return not refused(self.findings)


def inspect(data: DataSpec, session: SessionSpec) -> Report:
    """Read what the spec names and run every check on it; nothing is refused yet."""
    now_ns = pd.Timestamp(now()).as_unit("ns").value
    raws = provider_of(data).read(data)
    found = [each for raw in raws for each in row_findings(raw)]
    hopeless = {each.symbol for each in found if each.check in ("rows", "timeframe")}
    kept = [clean(raw) for raw in raws if raw.symbol not in hopeless]
    parts = _recent([(raw, make_bars(raw)) for raw in kept if len(raw.timestamp) >= MIN_BARS], data.months)
    calendar = None
    if parts:
        found += _mixed(parts)
        calendar = resolve_calendar(
            session, parts[0][1] if _mixed(parts) else join_bars([b for _, b in parts])
        )
        first = min(int(bars.bar_end[0]) for _, bars in parts)
        last = max(int(bars.bar_end[-1]) for _, bars in parts)
        table = session_table(calendar, first, last, session)
        for raw, bars in parts:
            found += _of_one(raw, bars, table, data, session)
            found += stale_findings(raw, bars, now_ns, data.max_age)
        found += ragged_findings(parts)
    judged = judge(found, data.severity)
    rank = {check: row for row, check in enumerate(CHECKS)}
    judged.sort(key=lambda each: (SEVERITIES.index(each.severity), rank[each.check]))
    return Report(calendar, tuple(_coverage(*part, now_ns) for part in parts), tuple(judged))


def enforce(report: Report, say: Callable[[str], None]) -> None:
    """Say every warning, then raise BadInputError where a finding refuses."""
    for each in report.findings:
        if each.severity == "warn":
            say(line(each))
    refuse(report.findings)


def _of_one(
    raw: RawBars, bars: Bars, table: SessionTable, data: DataSpec, session: SessionSpec
) -> Iterator[Finding]:
    """Yield what is wrong with one symbol's prices, volume and times."""
    yield from level_findings(raw, table.index(bars.bar_end))
    against = calendar_findings(raw, bars, table, data.max_gap_days)
    yield from against
    readable = all(each.check != "time_zone" for each in against)
    if readable and ends_flat(session, table.calendar, bars.timeframe):
        yield from exit_findings(raw, _at_timeframe(bars, data.timeframe, table), table)


def _at_timeframe(bars: Bars, timeframe: str, table: SessionTable) -> Bars:
    """Return the bars that a market would have, or those of the source where it can have none."""
    possible = timeframe_ns(timeframe) % timeframe_ns(bars.timeframe) == 0
    return resample(bars, timeframe, table) if possible else bars


def _mixed(parts: Sequence[Part]) -> list[Finding]:
    """Return the symbols whose timeframe differs from that of the first."""
    raw, bars = parts[0]
    return [
        find(
            "timeframe",
            other,
            other.timestamp,
            f"{other.symbol} has {their.timeframe} bars, {raw.symbol} {bars.timeframe}",
            "use files of one timeframe",
        )
        for other, their in parts[1:]
        if their.timeframe != bars.timeframe
    ]


def _recent(parts: Sequence[Part], months: int | None) -> list[Part]:
    """Return the bars of the last calendar months before the end of the last bar of all."""
    if months is None or not parts:
        return list(parts)
    end = pd.Timestamp(max(int(bars.bar_end[-1]) for _, bars in parts), tz="UTC")
    start = (end - pd.DateOffset(months=months)).value
    recent = []
    for raw, _ in parts:
        kept = raw.timestamp >= start
        if kept.sum() >= MIN_BARS:
            late = replace(raw, timestamp=raw.timestamp[kept], ohlcv=raw.ohlcv[kept], spread=raw.spread[kept])
            recent.append((late, make_bars(late)))
    return recent


def _coverage(raw: RawBars, bars: Bars, now_ns: int) -> Coverage:
    """Return what one symbol's bars cover."""
    return Coverage(
        symbol=raw.symbol,
        source=raw.source,
        timeframe=bars.timeframe,
        rows=bars.n_bars,
        first=utc_text(bars.timestamp[0]),
        last=utc_text(bars.timestamp[-1]),
        days=(int(bars.bar_end[-1]) - int(bars.timestamp[0])) / DAY_NS,
        age_days=age_days(bars, now_ns),
    )
