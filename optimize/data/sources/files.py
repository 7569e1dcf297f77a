"""Bars from files: their columns as numbers and stamps, in order of time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import FloatArray
from optimize.data.bars import RawBars
from optimize.data.sources.columns import Columns, find_columns
from optimize.data.sources.formats import read_table
from optimize.data.sources.numbers import read_numbers
from optimize.data.sources.parts import join_parts, symbol_files, symbol_of, symbol_parts
from optimize.data.sources.prices import adjust, fixed_point, spread_in_price
from optimize.data.sources.rows import in_order, starts_of, without_copies
from optimize.data.sources.symbols import rows_of_symbol
from optimize.data.sources.tables import Table
from optimize.data.sources.timestamps import parse_stamps
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

__all__ = ["read_file", "read_files", "symbol_files", "symbol_of"]


def read_files(spec: DataSpec) -> list[RawBars]:
    """Read every symbol from its file, from its parts, or from one file of several symbols."""
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


def read_file(path: Path, symbol: str, spec: DataSpec, content: bytes | None = None) -> RawBars:
    """Read and parse one file, or content of it that was read before."""
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
    stamps = parse_stamps(_stamp_column(table.frame, found), spec, table.path)
    stamp = stamps.ns
    volume, counted = _volume(found, values)
    has_volume = found.volume is not None and not (values["volume"] == -1).all()
    ohlcv = np.stack([*(values[name] for name in names), volume], axis=1)
    adjusted = adjust(ohlcv[:, :4], values["adjusted"], found, spec, table.path)
    spread, quoted = spread_in_price(values["spread"], ohlcv[:, :4], found, spec, table.path)
    if spec.drop_nan:
        kept = np.isfinite(ohlcv[:, :4]).all(axis=1) & np.isfinite(spread)
        ohlcv[~np.isfinite(ohlcv[:, 4]), 4] = 0.0  # a price is worth its row; zero_volume finds the rest
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
    """Return the table without rows that have neither stamp nor prices, as spreadsheets leave them."""
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
    """Return the stamps, a date column joined with the time column beside it."""
    if found.clock is None:
        return frame[found.timestamp]
    date, time = frame[found.timestamp], frame[found.clock]
    clock = time.astype(str).str.strip()
    if pd.api.types.is_integer_dtype(time):  # 93000 was 093000 before it was read as a number
        clock = clock.str.zfill(4 if int(time.max()) <= 2400 else 6)
    joined = (date.astype(str).str.strip() + " " + clock).where(date.notna() & time.notna())
    return joined.rename(f"{found.timestamp} {found.clock}")


def _volume(found: Columns, values: dict[str, FloatArray]) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the volume: the real one, or that of ticks where the real one is 0 throughout."""
    volume = values["volume"]
    if (volume == -1).all():
        return np.zeros(len(volume)), (f"{found.volume!r} is -1 throughout, so there is no volume",)
    if found.tick_volume is None or volume.any():
        return volume, ()
    return values["ticks"], (f"volume is {found.tick_volume!r}, for {found.volume!r} is 0 throughout",)
