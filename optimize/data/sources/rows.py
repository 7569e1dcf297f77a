"""Rows in order of time, without copies, stamped at the start of their bars."""

from dataclasses import replace

import numpy as np
import pandas as pd

from envs.types import BoolArray, IntArray
from optimize.data.bars import RawBars, usual_spacing_ns
from optimize.data.spec import DAY_NS, MINUTE_NS, SECOND_NS, DataSpec, timeframe_ns
from optimize.data.zones import localize, parse_clock, wall_time

BEFORE = {1: "1 ns", 1_000: "1 us", 1_000_000: "1 ms", SECOND_NS: "1 s"}  # a whole minute


def in_order(raw: RawBars) -> RawBars:
    """Return rows that are wholly in descending order the other way round; others stay as they are."""
    step = np.diff(raw.timestamp)
    if not len(step) or not (step <= 0).all() or not (step < 0).any():
        return raw
    return replace(
        raw,
        timestamp=raw.timestamp[::-1].copy(),
        ohlcv=raw.ohlcv[::-1].copy(),
        spread=raw.spread[::-1].copy(),
        assumptions=(*raw.assumptions, "its rows, newest first, taken in reverse order"),
    )


def without_copies(raw: RawBars) -> RawBars:
    """Return the rows without exact copies of others; rows of one stamp that differ stay as they are."""
    if len(raw.timestamp) < 2 or (np.diff(raw.timestamp) > 0).all():
        return raw
    rows = pd.DataFrame(np.column_stack([raw.ohlcv, raw.spread]))
    rows.insert(0, "timestamp", raw.timestamp)
    copies = rows.duplicated().to_numpy()
    count = int(copies.sum())
    if not count:
        return raw
    note = f"{count} exact {'copy' if count == 1 else 'copies'} of other rows dropped"
    return replace(_kept(raw, ~copies), assumptions=(*raw.assumptions, note))


def starts_of(raw: RawBars, spec: DataSpec) -> RawBars:
    """Return the rows stamped at the start of their bars, where stamps are their ends."""
    short = None if spec.stamp == "start" else _short_of_a_minute(raw.timestamp)
    if spec.stamp != "end" and short is None:
        return raw
    known = spec.source_timeframe
    length_ns = timeframe_ns(known) if known else usual_spacing_ns(raw.timestamp)
    ends = raw.timestamp.copy()
    if short is not None:
        ends[ends % MINUTE_NS == MINUTE_NS - short] += short
    moved = _earlier(ends, length_ns, spec.time_zone)
    seen = f"stamps lie {BEFORE[short]} before a whole minute, so they are the ends of bars" if short else ""
    note = seen or f"stamps taken as the ends of bars (data.stamp=end), which begin {_text(length_ns)} before"
    if short is not None and len(ends) and raw.timestamp[-1] == ends[-1]:  # a last row of now
        moved[-1] = raw.timestamp[-1]
    return replace(raw, timestamp=moved, assumptions=(*raw.assumptions, note))


def _short_of_a_minute(timestamp: IntArray) -> int | None:
    """Return by how many nanoseconds all stamps, but perhaps the last, fall short of a whole minute."""
    if len(timestamp) < 2:
        return None
    short = int(-timestamp[0] % MINUTE_NS)
    alike = bool((-timestamp[:-1] % MINUTE_NS == short).all())
    return short if short in BEFORE and alike else None


def _earlier(ends: IntArray, length_ns: int, time_zone: str) -> IntArray:
    """Return stamps a bar earlier; whole days by the clock of the zone."""
    if length_ns % DAY_NS:
        return ends - length_ns
    clock = parse_clock(time_zone)
    local = wall_time(pd.DatetimeIndex(ends, tz="UTC"), clock) - pd.Timedelta(length_ns, unit="ns")
    begun = (
        localize(local, clock, ambiguous=np.ones(len(ends), dtype=np.bool_)).tz_convert("UTC").as_unit("ns")
    )
    return np.where(begun.isna(), ends - length_ns, begun.asi8)


def _text(length_ns: int) -> str:
    return f"{length_ns / MINUTE_NS:g} min"


def _kept(raw: RawBars, kept: BoolArray) -> RawBars:
    return replace(raw, timestamp=raw.timestamp[kept], ohlcv=raw.ohlcv[kept], spread=raw.spread[kept])
