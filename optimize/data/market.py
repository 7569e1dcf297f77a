"""Build a Market from a source: load bars, resample, compute features, cut off the warm-up."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.fields import MARKET
from envs.plain import part_of
from envs.types import BoolArray, FloatArray, Market, array_specs
from optimize.data.bars import Bars, bars_fingerprint, utc_text
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import check_features, compute_features, refuse_leaks, warmup_bars
from optimize.data.features.registry import FEATURES, keys_in_use, keys_read_by
from optimize.data.features.spec import FEATURE_KEYS, FeatureSpec
from optimize.data.period import cut_to_period
from optimize.data.quality.calendar_fit import resolve_calendar
from optimize.data.quality.findings import pluralise
from optimize.data.quality.rows import checked_bars
from optimize.data.quality.sessions import gaps_of, select_session_bars
from optimize.data.resample import resample
from optimize.data.sessions import (
    AROUND_THE_CLOCK,
    SessionTable,
    exit_flags,
    refuse_without_exit,
    session_table,
    sessions_end_flat,
)
from optimize.data.sources.read_once import read_rows
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, HOUR_NS, timeframe_ns
from optimize.errors import BadInputError
from optimize.hashing import hash_object

EXIT_KEYS = ("exit_time", "exit_minutes_before_close")  # not used where sessions need not end flat
HASHED_ALONE = {  # keys that the fingerprint covers in another form
    "indicators": "the names",
    "parameters": "the values of the keys that the chosen features declare",
    "calendar": "the calendar that auto comes to",
    "flat_overnight": "the presence of the exit keys",
    "outside": "the bars",
}


@dataclass(frozen=True)
class BarsSummary:
    """Summary of bars, as printed by `walkforge data`."""

    symbols: tuple[str, ...]
    timeframe: str
    rows: int
    first: str  # UTC start of the first bar
    last: str  # UTC start of the last bar
    calendar: str
    sessions: int  # sessions of the calendar from first to last bar
    empty_sessions: int  # sessions without a bar
    gaps: int  # gaps in open market time
    longest_gap_hours: float  # in hours of open market time
    missing_bars: int  # bars that would fill the gaps
    untradable_share: tuple[float, ...]  # share of each symbol's bars that are untradable
    zero_volume_share: tuple[float, ...]  # share of each symbol's tradable bars that have no volume
    fingerprint: str


def load_bars(spec: DataSpec) -> Bars:
    """Load the bars of a spec at the timeframe of their source; refuse broken rows."""
    return cut_to_period(checked_bars(read_rows(spec), spec), spec)


def build_market(data: DataSpec, feature: FeatureSpec, session: SessionSpec) -> Market:
    """Build the market; its sessions are those of the source's bars, whatever the timeframe."""
    source = load_bars(data)
    return market_of(source, data.timeframe or source.timeframe, feature, session)


def bars_at(source: Bars, timeframe: str, session: SessionSpec) -> Bars:
    """Return the source's bars at a timeframe, including the warm-up that a market cuts off."""
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    return resample(select_session_bars(source, table, session), timeframe, table)


def volume_of(data: DataSpec, session: SessionSpec, market: Market) -> FloatArray:
    """Return the volume (T, A) of the bars of a market, which has none itself; 0 where the data have none."""
    source = load_bars(data)
    bars = bars_at(source, market.timeframe, session)
    return bars.volume[-market.n_bars :]


def refuse_leaking_features(data: DataSpec, feature: FeatureSpec, session: SessionSpec) -> None:
    """Recompute the features of the newest bars on truncated data; refuse features that read the future."""
    source = load_bars(data)
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    refuse_leaks(bars_at(source, data.timeframe or source.timeframe, session), feature, table)


def market_of(source: Bars, timeframe: str, feature: FeatureSpec, session: SessionSpec) -> Market:
    """Build the market from loaded bars."""
    calendar = resolve_calendar(session, source)
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]), session)
    source = select_session_bars(source, table, session)
    _refuse_strays(source, table)
    flat = sessions_end_flat(session, calendar, source.timeframe)
    first, last = table.index(source)[[0, -1]]
    bars = resample(source, timeframe, table)
    exit_at_open, exit_at_close = _exits(bars, table, flat)
    check_features(bars, feature, table)
    _refuse_too_short(bars, feature, warmup_bars(feature), source.timeframe)
    features, names, warmup = compute_features(bars, feature, table)
    _refuse_too_short(bars, feature, warmup, source.timeframe)
    content: list[Any] = [bars_fingerprint(source), timeframe, list(feature.indicators), calendar]
    content += fingerprinted_settings(feature, session, calendar, flat)
    computed: dict[str, NDArray[Any]] = {
        "exit_at_open": exit_at_open[warmup:],
        "exit_at_close": exit_at_close[warmup:],
        "features": features[warmup:],
        "session": table.index(bars)[warmup:] - first,
        "session_date": table.date[first : last + 1],
        "hold_moments": np.full(3, np.nan),
    }
    of_bars = {name: getattr(bars, name)[warmup:] for name in array_specs(Market) if name not in computed}
    market = Market(
        symbols=bars.symbols,
        timeframe=timeframe,
        feature_names=names,
        sessions_per_year=table.per_year,
        fingerprint=hash_object(content),
        **(of_bars | computed),
    )
    return read_only_market(market)


def _refuse_strays(source: Bars, table: SessionTable) -> None:
    """Refuse bars that begin inside another bar while the market is open.

    The earlier bar would be cut at the stray bar and count as known before its close. A clock change, a break
    or the end of the day may shorten one bar, but never two in a row.
    """
    length_ns = timeframe_ns(source.timeframe)
    begin, end = table.stretches.T
    stretch = np.searchsorted(begin, source.timestamp, side="right") - 1
    inside = (stretch[1:] == stretch[:-1]) & (source.timestamp[1:] < end[stretch[1:]])
    short = np.diff(source.timestamp) < length_ns
    stray = np.flatnonzero(short[:-1] & short[1:] & inside[:-1]) + 1
    if length_ns < DAY_NS and len(stray):
        raise BadInputError(
            f"{', '.join(source.symbols)}: {pluralise(len(stray), 'bar')} of {source.timeframe} begin inside "
            f"the bar before, the first at {utc_text(source.timestamp[stray[0]])}, which would count as "
            "known before its end: stamp every row with the start of its bar and keep one grid; no "
            "data.severity admits overlapping bars"
        )


def _exits(bars: Bars, table: SessionTable, flat: bool) -> tuple[BoolArray, BoolArray]:
    """Return exit_at_open (T,) and exit_at_close (T,), all false if sessions need not end flat."""
    if not flat:
        never = np.zeros(bars.n_bars, dtype=np.bool_)
        return never, never
    refuse_without_exit(bars, table)
    return exit_flags(bars, table)


def fingerprinted_settings(
    feature: FeatureSpec, session: SessionSpec, calendar: str, flat: bool
) -> list[dict[str, Any]]:
    """Return the keys of role market that the bars, the timeframe and the calendar do not stand for.

    A key at its default is left out, unless version 0.1 had it: a new key changes no stored fingerprint.
    """
    read = keys_read_by(feature.indicators)
    of_feature = _changed(feature, keys_read_by(FEATURES) - read)
    if "zigzag_pct" in read:
        of_feature["zigzag_pct"] = list(feature.zigzag_pct)
    declared = keys_in_use(feature)
    of_feature |= {key: value for key, value in declared.items() if value != FEATURE_KEYS[key].default}
    of_session = _changed(session, EXIT_KEYS)
    if flat:
        time = None if calendar in AROUND_THE_CLOCK else session.exit_time  # it is not used there
        of_session |= {"exit_time": time, "exit_minutes_before_close": session.exit_minutes_before_close}
    return [part for part in (of_feature, of_session) if part]


def _changed(spec: FeatureSpec | SessionSpec, left_out: Iterable[str]) -> dict[str, Any]:
    """Return the keys of role market that are not at their default, without those that are left out."""
    default = part_of(type(spec)(), MARKET)
    return {
        key: value
        for key, value in part_of(spec, MARKET).items()
        if key not in HASHED_ALONE and key not in left_out and value != default[key]
    }


def read_only_market(market: Market) -> Market:
    """Return the market with contiguous, read-only arrays, like a market from the cache."""
    arrays: dict[str, Any] = {
        name: np.ascontiguousarray(getattr(market, name)).view() for name in array_specs(type(market))
    }
    for array in arrays.values():
        array.flags.writeable = False
    return replace(market, **arrays)


def _refuse_too_short(bars: Bars, feature: FeatureSpec, warmup: int, source: str) -> None:
    """Refuse too few bars for warm-up and lookback; source is the finest timeframe available."""
    if bars.n_bars < warmup + feature.history + 1:
        finer = "" if bars.timeframe == source else f", a finer data.timeframe (down to {source})"
        raise BadInputError(
            f"{', '.join(bars.symbols)} has {bars.n_bars} bars at data.timeframe={bars.timeframe}, but "
            f"its features need {warmup} to settle and feature.lookback {feature.lookback}: "
            f"use more data{finer} or faster feature.indicators"
        )


def summarise_bars(bars: Bars, session: SessionSpec) -> BarsSummary:
    """Summarise bars and their gaps in the calendar's open time."""
    calendar = resolve_calendar(session, bars)
    table = session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]))
    bars = select_session_bars(bars, table, session)
    row = table.index(bars)
    sessions = int(row[-1] - row[0]) + 1
    gaps = gaps_of(bars, table)
    traded = bars.tradable.sum(axis=0)
    silent = (bars.tradable & (bars.volume == 0)).sum(axis=0) / np.maximum(traded, 1)
    return BarsSummary(
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
