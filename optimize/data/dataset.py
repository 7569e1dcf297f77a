"""From a source of bars to a Market: load, resample, compute features, trim once."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envs.types import BoolArray, Market
from optimize.data.bars import Bars, bars_fingerprint, utc_text
from optimize.data.features import check_features, compute, refuse_leaks, warmup_bars
from optimize.data.period import cut_to_period
from optimize.data.providers import provider_of
from optimize.data.quality.calendar_verdict import resolve_calendar
from optimize.data.quality.findings import counted
from optimize.data.quality.sessions import gaps_of, traded_bars
from optimize.data.resample import resample
from optimize.data.sessions import (
    AROUND_THE_CLOCK,
    SessionTable,
    ends_flat,
    exit_flags,
    refuse_without_exit,
    session_table,
)
from optimize.data.spec import DAY_NS, HOUR_NS, DataSpec, FeatureSpec, SessionSpec, timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_object


@dataclass(frozen=True)
class DataSummary:
    """What the data verb says about bars."""

    symbols: tuple[str, ...]
    timeframe: str
    rows: int
    first: str  # UTC start of the first bar
    last: str  # UTC start of the last bar
    calendar: str
    sessions: int  # of the calendar, from first to last bar
    empty_sessions: int  # of them without a bar
    gaps: int  # holes in open market time
    longest_gap_hours: float  # of open market time
    missing_bars: int  # that would fill the holes
    untradable_share: tuple[float, ...]  # bars of each symbol that did not trade
    zero_volume_share: tuple[float, ...]  # traded bars of each symbol without volume
    fingerprint: str


def load_bars(spec: DataSpec) -> Bars:
    """Load the bars that the spec names, at their source's timeframe; broken rows are refused."""
    return cut_to_period(provider_of(spec).load(spec), spec)


def build_market(data: DataSpec, feature: FeatureSpec, session: SessionSpec) -> Market:
    """Build the market; its sessions are those of the source's bars, whatever the timeframe."""
    source = load_bars(data)
    return market_of(source, data.timeframe or source.timeframe, feature, session)


def bars_at(source: Bars, timeframe: str, session: SessionSpec) -> Bars:
    """Return the source's bars at a timeframe, as a market has them before its warm-up is cut off."""
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    return resample(traded_bars(source, table, session), timeframe, table)


def refuse_leaking_features(data: DataSpec, feature: FeatureSpec, session: SessionSpec) -> None:
    """Compute the features of the newest bars again on fewer bars; refuse those that read the future."""
    source = load_bars(data)
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    refuse_leaks(bars_at(source, data.timeframe or source.timeframe, session), feature, table)


def market_of(source: Bars, timeframe: str, feature: FeatureSpec, session: SessionSpec) -> Market:
    """Build the market from bars that are already loaded."""
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    source = traded_bars(source, table, session)
    _refuse_strays(source, table)
    flat = ends_flat(session, calendar, source.timeframe)
    first, last = table.index(source)[[0, -1]]
    bars = resample(source, timeframe, table)
    exit_at_open, exit_at_close = _exits(bars, table, flat)
    check_features(bars, feature, table)
    _refuse_too_short(bars, feature, warmup_bars(feature.indicators), source.timeframe)
    features, names, warmup = compute(bars, feature, table)
    _refuse_too_short(bars, feature, warmup, source.timeframe)
    content = [bars_fingerprint(source), timeframe, list(feature.indicators), calendar]
    content += _options(feature) + (_exit_rule(session, calendar) if flat else [])
    market = Market(
        symbols=bars.symbols,
        timeframe=timeframe,
        timestamp=bars.timestamp[warmup:],
        bar_end=bars.bar_end[warmup:],
        open=bars.open[warmup:],
        high=bars.high[warmup:],
        low=bars.low[warmup:],
        close=bars.close[warmup:],
        tradable=bars.tradable[warmup:],
        spread=bars.spread[warmup:],
        exit_at_open=exit_at_open[warmup:],
        exit_at_close=exit_at_close[warmup:],
        features=features[warmup:],
        feature_names=names,
        session=table.index(bars)[warmup:] - first,
        session_date=table.date[first : last + 1],
        sessions_per_year=table.per_year,
        hold_moments=np.full(3, np.nan),
        fingerprint=hash_object(content),
    )
    return frozen(market)


def _refuse_strays(source: Bars, table: SessionTable) -> None:
    """Refuse bars that begin inside another one while the market is open.

    Cut at the stray bar, the other would be known before its close; clock changes, breaks and the day's end
    cut a bar too, but not the one after it.
    """
    length_ns = timeframe_ns(source.timeframe)
    begin, end = table.stretches.T
    stretch = np.searchsorted(begin, source.timestamp, side="right") - 1
    inside = (stretch[1:] == stretch[:-1]) & (source.timestamp[1:] < end[stretch[1:]])
    short = np.diff(source.timestamp) < length_ns
    stray = np.flatnonzero(short[:-1] & short[1:] & inside[:-1]) + 1
    if length_ns < DAY_NS and len(stray):
        raise BadInputError(
            f"{', '.join(source.symbols)}: {counted(len(stray), 'bar')} of {source.timeframe} begin inside "
            f"the bar before, the first at {utc_text(source.timestamp[stray[0]])}, which would count as "
            "known before its end: stamp every row with the start of its bar and keep one grid; no "
            "data.severity admits overlapping bars"
        )


def _exits(bars: Bars, table: SessionTable, flat: bool) -> tuple[BoolArray, BoolArray]:
    """Return exit_at_open (T,) and exit_at_close (T,), all false where sessions need not end flat."""
    if not flat:
        never = np.zeros(bars.n_bars, dtype=np.bool_)
        return never, never
    refuse_without_exit(bars, table)
    return exit_flags(bars, table)


def _exit_rule(session: SessionSpec, calendar: str) -> list[Any]:
    """Return what decides the exit times, for the fingerprint of a market that has them."""
    around_the_clock = calendar in AROUND_THE_CLOCK  # there session.exit_time is not used
    time = None if around_the_clock else session.exit_time
    return [{"exit_time": time, "exit_minutes_before_close": session.exit_minutes_before_close}]


def _options(feature: FeatureSpec) -> list[Any]:
    """Return the options that change the features, for the fingerprint; none where they do not."""
    coarser = {"higher_timeframes": list(feature.higher_timeframes)} if feature.higher_timeframes else {}
    zigzag = {"zigzag_pct": list(feature.zigzag_pct)} if "zigzag" in feature.indicators else {}
    return [coarser | zigzag] if coarser or zigzag else []


def frozen(market: Market) -> Market:
    """Return the market with contiguous, read-only arrays, as a cached one has them."""
    arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(market, name)).view() for name in ARRAYS}
    for array in arrays.values():
        array.flags.writeable = False
    return replace(market, **arrays)


ARRAYS = (
    "timestamp",
    "bar_end",
    "open",
    "high",
    "low",
    "close",
    "tradable",
    "spread",
    "exit_at_open",
    "exit_at_close",
    "features",
    "session",
    "session_date",
    "hold_moments",
)


def _refuse_too_short(bars: Bars, feature: FeatureSpec, warmup: int, source: str) -> None:
    """Refuse bars that warm-up and lookback use up; source is the finest timeframe that there is."""
    if bars.n_bars < warmup + feature.lookback + 1:
        finer = "" if bars.timeframe == source else f", a finer data.timeframe (down to {source})"
        raise BadInputError(
            f"{', '.join(bars.symbols)} has {bars.n_bars} bars at data.timeframe={bars.timeframe}, but "
            f"its features need {warmup} to settle and feature.lookback {feature.lookback}: "
            f"use more data{finer} or faster feature.indicators"
        )


def describe(bars: Bars, session: SessionSpec) -> DataSummary:
    """Summarise bars and the holes in them, measured in the calendar's open time."""
    calendar = resolve_calendar(session, bars)
    table = session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]))
    bars = traded_bars(bars, table, session)
    row = table.index(bars)
    sessions = int(row[-1] - row[0]) + 1
    gaps = gaps_of(bars, table)
    traded = bars.tradable.sum(axis=0)
    silent = (bars.tradable & (bars.volume == 0)).sum(axis=0) / np.maximum(traded, 1)
    return DataSummary(
        symbols=bars.symbols,
        timeframe=bars.timeframe,
        rows=bars.n_bars,
        first=utc_text(bars.timestamp[0]),
        last=utc_text(bars.timestamp[-1]),
        calendar=calendar,
        sessions=sessions,
        empty_sessions=sessions - len(np.unique(row)),
        gaps=len(gaps.bars),
        longest_gap_hours=float(gaps.open_ns.max(initial=0)) / HOUR_NS,
        missing_bars=int(gaps.bars.sum()),
        untradable_share=tuple((1.0 - traded / bars.n_bars).tolist()),
        zero_volume_share=tuple(silent.tolist()),
        fingerprint=bars_fingerprint(bars),
    )
