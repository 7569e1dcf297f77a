"""The quality report: every check on every symbol of a source, before anything is built on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from optimize.clock import now
from optimize.data.bars import Bars, RawBars, join_bars, make_bars, utc_text
from optimize.data.calendars.spec import SessionSpec
from optimize.data.quality.calendar_fit import resolve_calendar
from optimize.data.quality.findings import (
    QualityFinding,
    apply_severities,
    brief_finding,
    make_finding,
    refuse_findings,
    refusing_findings,
)
from optimize.data.quality.hours import MISREAD
from optimize.data.quality.prices import jump_findings, level_findings
from optimize.data.quality.rows import MIN_BARS, clean_rows, row_findings
from optimize.data.quality.sessions import calendar_findings, exit_findings, select_session_bars
from optimize.data.quality.span import (
    Part,
    age_days,
    parts_of_period,
    ragged_findings,
    short_findings,
    stale_findings,
    stamp_findings,
    with_surroundings,
)
from optimize.data.resample import resample, resampling_error
from optimize.data.sessions import SessionTable, session_table, sessions_end_flat
from optimize.data.sources.providers import provider_of
from optimize.data.sources.read_once import read_rows
from optimize.data.spec import CHECKS, SEVERITIES, DataSpec
from optimize.data.timeframes import DAY_NS
from optimize.errors import BadInputError

ABOUT_VOLUME = ("zero_volume", "volume_level")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Span and number of one symbol's bars."""

    symbol: str
    source: str
    timeframe: str
    rows: int
    first: str  # UTC start of the first bar
    last: str  # UTC start of the last bar
    days: float  # from the start of the first bar to the end of the last
    age_days: float  # from the end of the last bar to now
    assumptions: tuple[str, ...] = ()  # sentences for the user on choices made while reading


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Coverage of the bars and the findings on them, most severe first."""

    calendar: str | None  # None: there are no bars to infer it from
    coverage: tuple[Coverage, ...]
    findings: tuple[QualityFinding, ...]

    @property
    def passed(self) -> bool:
        """Return whether no finding refuses."""
        return not refusing_findings(self.findings)


def inspect_bars(data: DataSpec, session: SessionSpec) -> QualityReport:
    """Read the bars of a spec and run every check on them, without refusing anything."""
    now_ns = pd.Timestamp(now()).as_unit("ns").value
    raws = read_rows(data)
    found = [each for raw in raws for each in row_findings(raw)]
    hopeless = {each.symbol for each in found if each.check in ("rows", "timeframe")}
    kept = [clean_rows(raw) for raw in raws if raw.symbol not in hopeless]
    made = [(raw, make_bars(raw, data.zero_volume)) for raw in kept if len(raw.timestamp) >= MIN_BARS]
    parts, ended = parts_of_period(made, data)
    found += ended
    calendar = None
    if parts:
        mixed = _mixed(parts)
        found += mixed or _unreachable(parts[0], data.timeframe or parts[0][1].timeframe)
        calendar = resolve_calendar(session, parts[0][1] if mixed else join_bars([b for _, b in parts]))
        first = min(int(bars.bar_end[0]) for _, bars in parts)
        last = max(int(bars.bar_end[-1]) for _, bars in parts)
        table = session_table(calendar, first, last, session)
        parts = [_traded(part, table, session) for part in parts]
        wholes = {raw.symbol: (raw, bars) for raw, bars in made}
        alone = len(raws) == 1
        for raw, bars in parts:
            on_stamps = [] if data.provider == "synthetic" else stamp_findings(raw, bars, table, now_ns)
            found += on_stamps
            if all(each.check != "spacing" for each in on_stamps):  # else there is no one timeframe to check
                found += _jumps(bars, wholes[raw.symbol], table, data, session)
                found += _of_one(raw, bars, table, data, session, alone=alone)
            found += stale_findings(raw, bars, now_ns, data.max_age)
        found += [*ragged_findings(parts, table), *short_findings(parts, table, data)]
    judged = apply_severities(found, data.severity)
    rank = {check: row for row, check in enumerate(CHECKS)}
    judged.sort(key=lambda each: (SEVERITIES.index(each.severity), rank[each.check]))
    return QualityReport(calendar, tuple(_coverage(*part, now_ns) for part in parts), tuple(judged))


def enforce_report(
    report: QualityReport, say: Callable[[str], None], *, reads_volume: bool = True, again: bool = False
) -> None:
    """Print assumptions and warnings in short form, then raise BadInputError if a finding refuses.

    With again=True only a refusal is repeated. Findings on volume are left out if no feature reads it.
    """
    warnings = [each for each in report.findings if each.severity == "warn"]
    warnings = [each for each in warnings if reads_volume or each.check not in ABOUT_VOLUME]
    if not again:
        for part in report.coverage:
            for sentence in part.assumptions:
                say(f"assumed {part.symbol}: {sentence}")
        for each in warnings:
            say(brief_finding(each))
        if warnings:
            say("dates and remedies: walkforge data data.check=true, with the same data keys")
    refuse_findings(report.findings)


def _of_one(
    raw: RawBars, bars: Bars, table: SessionTable, data: DataSpec, session: SessionSpec, *, alone: bool
) -> Iterator[QualityFinding]:
    """Yield the findings on one symbol's prices, volume and times."""
    yield from level_findings(raw)
    auto = session.calendar == "auto"
    against = calendar_findings(raw, bars, table, data.max_gap_days, auto=auto, alone=alone)
    yield from against
    readable = not any(each.check in MISREAD for each in against)
    if readable and sessions_end_flat(session, table.calendar, bars.timeframe):
        yield from exit_findings(raw, _at_timeframe(bars, data.timeframe or bars.timeframe, table), table)


def _jumps(
    bars: Bars, whole: Part, table: SessionTable, data: DataSpec, session: SessionSpec
) -> list[QualityFinding]:
    """Return the jumps of prices and volume, judged with the rows around the period as well."""
    _, near = with_surroundings(bars, whole)
    first, last = int(near.timestamp[0]), int(near.bar_end[-1])
    if first < table.open_ns[0] or last > table.close_ns[-1]:
        with suppress(BadInputError):  # the calendar is not recorded for the rows around
            table = session_table(table.calendar, first, last, session)
    raw, near = _traded(with_surroundings(bars, whole, int(table.open_ns[0])), table, session)
    return jump_findings(raw, table.index(near), bars.timestamp, split_remedy(data))


def _traded(part: Part, table: SessionTable, session: SessionSpec) -> Part:
    """Return a part without the bars dropped by session.outside=drop."""
    raw, bars = part
    traded = select_session_bars(bars, table, session)
    if traded is bars:
        return part
    kept = np.isin(raw.timestamp, traded.timestamp)
    late = replace(raw, timestamp=raw.timestamp[kept], ohlcv=raw.ohlcv[kept], spread=raw.spread[kept])
    return late, traded


def _at_timeframe(bars: Bars, timeframe: str, table: SessionTable) -> Bars:
    """Return the bars at the market's timeframe, or the source's bars if that cannot be made."""
    return bars if resampling_error(bars.timeframe, timeframe) else resample(bars, timeframe, table)


def split_remedy(data: DataSpec) -> str:
    """Return how to get split-adjusted prices from this provider."""
    if data.provider == "alpaca" and data.adjustment in ("raw", "dividend"):
        return "set data.adjustment=split, or all"
    if provider_of(data).download is not None:
        return "delete the stored file and download it again, or choose another data.provider"
    return "use a file of prices adjusted for splits (those before it divided by the ratio)"


def _unreachable(part: Part, timeframe: str) -> list[QualityFinding]:
    """Return a finding if the market's timeframe cannot be made from the source's."""
    raw, bars = part
    reason = resampling_error(bars.timeframe, timeframe)
    if reason is None:
        return []
    found, remedy = reason
    return [make_finding("timeframe", raw, raw.timestamp, found, remedy)]


def _mixed(parts: Sequence[Part]) -> list[QualityFinding]:
    """Return a finding for each symbol whose timeframe differs from the first one's."""
    raw, bars = parts[0]
    return [
        make_finding(
            "timeframe",
            other,
            other.timestamp,
            f"{other.symbol} has {their.timeframe} bars, {raw.symbol} {bars.timeframe}",
            "use files of one timeframe",
        )
        for other, their in parts[1:]
        if their.timeframe != bars.timeframe
    ]


def _coverage(raw: RawBars, bars: Bars, now_ns: int) -> Coverage:
    """Return the coverage of one symbol's bars."""
    return Coverage(
        symbol=raw.symbol,
        source=raw.source,
        timeframe=bars.timeframe,
        rows=bars.n_bars,
        first=utc_text(bars.timestamp[0]),
        last=utc_text(bars.timestamp[-1]),
        days=(int(bars.bar_end[-1]) - int(bars.timestamp[0])) / DAY_NS,
        age_days=age_days(bars, now_ns),
        assumptions=raw.assumptions,
    )
