"""Describe the source of a market in one line, and resolve settings that depend on the source."""

from dataclasses import dataclass, fields, replace

import numpy as np

from optimize.data.bars import infer_timeframe
from optimize.data.quality.findings import pluralise
from optimize.data.quality.report import QualityReport
from optimize.data.resample import resampling_error
from optimize.data.sources.downloaded import source_timeframe
from optimize.data.sources.providers import PROVIDERS, SHARED_KEYS, provider_of
from optimize.data.sources.read_once import read_rows
from optimize.data.sources.synthetic import DEFAULT_TIMEFRAME
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

MIN_SPACING_BARS = 2  # fewer have no spacing


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """The bars from which a market is built."""

    symbols: tuple[str, ...]
    timeframe: str  # of the market
    source_timeframe: str  # of the bars
    source: str  # path of the file, or name of the generator
    first: str  # date of the first bar, UTC
    last: str  # date of the last bar, UTC


def summarise_source(report: QualityReport, data: DataSpec) -> SourceSummary:
    """Return the source described by a quality report."""
    covered = report.coverage
    if not covered:
        raise BadInputError(
            f"data.provider={data.provider} has no bars: check data.path, data.symbols and the dates"
        )
    names = list(dict.fromkeys(each.source.rpartition("/")[2] for each in covered))
    more = f" and {pluralise(len(names) - 1, 'other')}" if names[1:] else ""
    return SourceSummary(
        symbols=tuple(each.symbol for each in covered),
        timeframe=data.timeframe or covered[0].timeframe,
        source_timeframe=covered[0].timeframe,
        source=names[0] + more,
        first=min(each.first for each in covered)[:10],
        last=max(each.last for each in covered)[:10],
    )


def source_line(source: SourceSummary) -> str:
    """Return symbols, timeframe, source and span: `TQQQ: 5m bars of tqqq.csv, ... resampled to 1h`."""
    resampled = "" if source.timeframe == source.source_timeframe else f", resampled to {source.timeframe}"
    return (
        f"{', '.join(source.symbols)}: {source.source_timeframe} bars of {source.source}, "
        f"{source.first} to {source.last}{resampled}"
    )


def resolve_data(data: DataSpec) -> DataSpec:
    """Return data with data.timeframe set to the source's own if null; refuse settings without effect."""
    refuse_unread(data)
    return data if data.timeframe is not None else replace(data, timeframe=detect_timeframe(data))


def refuse_unread(data: DataSpec) -> None:
    """Refuse settings that the chosen provider does not read."""
    read = SHARED_KEYS | provider_of(data).reads
    default = DataSpec()
    for each in fields(data):
        value = getattr(data, each.name)
        if each.name in read or value == getattr(default, each.name):
            continue
        readers = [name for name, provider in PROVIDERS.items() if each.name in provider.reads]
        raise BadInputError(
            f"data.{each.name}={value!r} is not read by data.provider={data.provider}: leave it out, or add "
            f"{' or '.join(f'data={name}' for name in readers)}, which "
            f"{'reads' if len(readers) == 1 else 'read'} it"
        )


def detect_timeframe(data: DataSpec) -> str:
    """Return the timeframe of the source's bars, inferred from their spacing if it is stated nowhere."""
    if data.source_timeframe is not None:
        return data.source_timeframe
    if provider_of(data).download is not None:
        return source_timeframe(data)
    if data.provider == "synthetic":
        return DEFAULT_TIMEFRAME
    raw = read_rows(data)[0]
    stamps = np.unique(raw.timestamp)
    if len(stamps) < MIN_SPACING_BARS:
        raise BadInputError(
            f"{raw.source} has {pluralise(len(stamps), 'bar')}, too few to show a timeframe: give more data"
        )
    return raw.timeframe or infer_timeframe(stamps)


def check_timeframes(source: SourceSummary, timeframes: list[str]) -> None:
    """Refuse timeframes of phase 1 that cannot be made from the source's bars."""
    for timeframe in timeframes:
        reason = resampling_error(source.source_timeframe, timeframe)
        if reason is not None:
            found = reason[0].removeprefix("data.timeframe=")
            raise BadInputError(
                f"phase.timeframe.timeframes={timeframes}: {found}; list {source.source_timeframe} and "
                f"multiples of it, such as phase.timeframe.timeframes=[{source.source_timeframe}]"
            )
