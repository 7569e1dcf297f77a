"""Read bars from files: parse numbers and timestamps, order the rows, and stamp them at bar starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, usual_spacing_ns
from optimize.data.calendars.zones import localize, parse_clock, wall_time
from optimize.data.sources.files.adjustment import adjust, fixed_point, spread_in_price
from optimize.data.sources.files.columns import Columns, find_columns, rows_of_symbol
from optimize.data.sources.files.formats import read_table
from optimize.data.sources.files.numbers import read_numbers
from optimize.data.sources.files.parts import join_parts, symbol_files, symbol_of, symbol_parts
from optimize.data.sources.files.tables import Table
from optimize.data.sources.files.timestamps import parse_timestamps
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, MINUTE_NS, SECOND_NS, timeframe_ns
from optimize.errors import BadInputError

__all__ = ["read_bars_file", "read_bars_files", "symbol_files", "symbol_of"]
STAMP_OFFSETS = {1: "1 ns", 1_000: "1 us", 1_000_000: "1 ms", SECOND_NS: "1 s"}  # a whole minute


def read_bars_files(spec: DataSpec) -> list[RawBars]:
    """Read every symbol, from its file, from its parts, or from one file of several symbols."""
    tables: dict[Path, Table] = {}
    found = []
    for symbol, paths in symbol_parts(spec).items():
        parts = []
        for path in paths:
            if path not in tables:
                tables[path] = read_table(path, spec)
            parts.append(_bars(tables[path], symbol, spec))
        found.append(join_parts(parts, str(paths[0] if len(paths) == 1 else paths[0].parent)))
    return found


def read_bars_file(path: Path, symbol: str, spec: DataSpec, content: bytes | None = None) -> RawBars:
    """Read and parse one file; content is its content if already read."""
    return _bars(read_table(path, spec, content), symbol, spec)


def _bars(table: Table, symbol: str, spec: DataSpec) -> RawBars:
    """Return the rows of one symbol."""
    table = rows_of_symbol(table, symbol, spec)
    found = find_columns(table.frame, spec, table.path)
    table = _without_empty_rows(table, found)
    names = {"open": found.open, "high": found.high, "low": found.low, "close": found.close}
    wanted = {**names, "volume": found.volume, "spread": found.spread}
    wanted |= {"ticks": found.tick_volume, "adjusted": found.adjusted}
    values, numbers = read_numbers(table, wanted, spec)
    stamps = parse_timestamps(_stamp_column(table.frame, found), spec, table.path)
    stamp = stamps.ns
    volume, counted = _volume(found, values)
    has_volume = found.volume is not None and not (values["volume"] == -1).all()
    ohlcv = np.stack([*(values[name] for name in names), volume], axis=1)
    adjusted = adjust(ohlcv[:, :4], values["adjusted"], found, spec, table.path)
    spread, quoted = spread_in_price(values["spread"], ohlcv[:, :4], found, spec, table.path)
    if spec.drop_nan:
        kept = np.isfinite(ohlcv[:, :4]).all(axis=1) & np.isfinite(spread)
        ohlcv[~np.isfinite(ohlcv[:, 4]), 4] = (
            0.0  # a row with prices is kept; the zero_volume check covers it
        )
        stamp, ohlcv, spread = stamp[kept], ohlcv[kept], spread[kept]
    notes = (*table.notes, *found.notes, *numbers, *stamps.notes, *counted, *adjusted, *quoted)
    notes += fixed_point(ohlcv[:, :4])
    raw = RawBars(
        symbol,
        str(table.path),
        stamp,
        ohlcv,
        spread,
        timeframe=spec.source_timeframe,
        has_volume=has_volume,
        assumptions=notes,
        clock=stamps.clock,
    )
    return starts_of(without_copies(in_order(raw)), spec)


def _without_empty_rows(table: Table, found: Columns) -> Table:
    """Return the table without rows that have neither timestamp nor prices, as spreadsheets leave them."""
    columns = [found.timestamp, *found.prices]
    if not table.frame[found.timestamp].isna().any():
        return table
    empty = table.frame[columns].isna().all(axis=1)
    if not empty.any():
        return table
    kept = table.frame[~empty].reset_index(drop=True)
    if kept.empty:
        raise BadInputError(f"{table.path} has no rows: choose another data.path")
    return replace(
        table, frame=kept, notes=(*table.notes, f"{int(empty.sum())} empty rows skipped"), text=None
    )


def _stamp_column(frame: pd.DataFrame, found: Columns) -> "pd.Series[Any]":
    """Return the timestamps; a date column is joined with its time column."""
    if found.clock is None:
        return frame[found.timestamp]
    date, time = frame[found.timestamp], frame[found.clock]
    clock = time.astype(str).str.strip()
    if pd.api.types.is_integer_dtype(time):  # 093000 was read as the number 93000
        clock = clock.str.zfill(4 if int(time.max()) <= 2400 else 6)
    joined = (date.astype(str).str.strip() + " " + clock).where(date.notna() & time.notna())
    return joined.rename(f"{found.timestamp} {found.clock}")


def _volume(found: Columns, values: dict[str, FloatArray]) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the volume: the real one, or the tick volume if the real one is always 0."""
    volume = values["volume"]
    if (volume == -1).all():
        return np.zeros(len(volume)), (f"{found.volume!r} is -1 throughout, so there is no volume",)
    if found.tick_volume is None or volume.any():
        return volume, ()
    return values["ticks"], (f"volume is {found.tick_volume!r}, for {found.volume!r} is 0 throughout",)


def in_order(raw: RawBars) -> RawBars:
    """Reverse rows that are entirely in descending order; return others unchanged."""
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
    """Drop exact copies of rows; rows of one timestamp that differ are kept."""
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
    """Move timestamps from the ends of bars to their starts, if they are ends."""
    short = None if spec.stamp == "start" else _short_of_a_minute(raw.timestamp)
    if spec.stamp != "end" and short is None:
        return raw
    known = spec.source_timeframe
    length_ns = timeframe_ns(known) if known else usual_spacing_ns(raw.timestamp)
    ends = raw.timestamp.copy()
    if short is not None:
        ends[ends % MINUTE_NS == MINUTE_NS - short] += short
    moved = _earlier(ends, length_ns, spec.time_zone)
    seen = (
        f"stamps lie {STAMP_OFFSETS[short]} before a whole minute, so they are the ends of bars"
        if short
        else ""
    )
    note = seen or f"stamps taken as the ends of bars (data.stamp=end), which begin {_text(length_ns)} before"
    if (
        short is not None and len(ends) and raw.timestamp[-1] == ends[-1]
    ):  # the last row is the current, unfinished bar
        moved[-1] = raw.timestamp[-1]
    return replace(raw, timestamp=moved, assumptions=(*raw.assumptions, note))


def _short_of_a_minute(timestamp: IntArray) -> int | None:
    """Return the constant distance in ns of timestamps to the next whole minute; the last may differ."""
    if len(timestamp) < 2:
        return None
    short = int(-timestamp[0] % MINUTE_NS)
    alike = bool((-timestamp[:-1] % MINUTE_NS == short).all())
    return short if short in STAMP_OFFSETS and alike else None


def _earlier(ends: IntArray, length_ns: int, time_zone: str) -> IntArray:
    """Return timestamps one bar earlier; whole days are counted on the clock of the zone."""
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
