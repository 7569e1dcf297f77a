"""The file's column of each of ours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.headers import JOINED
from optimize.data.sources.names import (
    ADJUSTED,
    CLOCKS,
    CLOSE_TIMES,
    DAYS,
    PRICES,
    QUOTES,
    SPREADS,
    STAMPS,
    SYMBOLS,
    VOLUMES,
    by_plain_name,
    plain,
    unit_of_volume,
)
from optimize.data.sources.tables import Table
from optimize.data.spec import COLUMNS, DataSpec
from optimize.errors import BadInputError

OPTIONAL = ("volume", "spread")  # 0 where the file has none
SHOWN = 30


@dataclass(frozen=True, slots=True)
class Columns:
    """The file's names of our columns."""

    timestamp: str
    open: str
    high: str
    low: str
    close: str
    volume: str | None
    spread: str | None
    clock: str | None = None  # the time of day beside a date
    tick_volume: str | None = None  # where the real volume of MetaTrader is 0 throughout
    adjusted: str | None = None  # the adjusted close
    metatrader: bool = False  # its spread is in points
    notes: tuple[str, ...] = ()

    @property
    def prices(self) -> tuple[str, str, str, str]:
        """Return the columns of open, high, low and close."""
        return self.open, self.high, self.low, self.close


def find_columns(frame: pd.DataFrame, spec: DataSpec, path: Path) -> Columns:
    """Return the file's column of each of ours; absent ones are named with what to type."""
    known = by_plain_name(frame.columns)
    found = {name: _wanted(frame, name, spec, path) or _find(known, name, path) for name in COLUMNS}
    absent = [name for name, column in found.items() if column is None and name not in OPTIONAL]
    if absent:
        raise BadInputError(_absent(frame, absent, known, path))
    stamp = str(found["timestamp"])
    clock = None if spec.columns.get("timestamp") else _clock(frame, stamp, known)
    if clock is not None and plain(stamp) not in DAYS:
        stamp = next(known[name][0] for name in DAYS if name in known)
    ticks = next((known[name][0] for name in ("tickvolume", "tickvol") if name in known), None)
    adjusted = next((known[name][0] for name in ADJUSTED if name in known), None)
    return Columns(
        timestamp=stamp,
        clock=clock,
        **{name: found[name] for name in COLUMNS if name != "timestamp"},  # type: ignore[arg-type]
        tick_volume=ticks if ticks != found["volume"] and not spec.columns.get("volume") else None,
        adjusted=adjusted,
        metatrader=ticks is not None,
        notes=tuple(_told(found, known, spec)),
    )


def symbol_column(table: Table, spec: DataSpec) -> str | None:
    """Return the column that tells symbols apart: the one asked for, or that of a form that has one."""
    wanted = _wanted(table.frame, "symbol", spec, table.path)
    return wanted or table.symbol


def named_symbols(frame: pd.DataFrame) -> str | None:
    """Return a column whose name is that of symbols and which holds several, or None."""
    known = by_plain_name(frame.columns)
    for name in SYMBOLS:
        for column in known.get(name, ()):
            if frame[column].nunique() > 1:
                return column
    return None


def long_form(table: Table) -> Table:
    """Return a wide table, whose columns have a ticker each, with a row a ticker and a column of tickers."""
    stamp, *rest = table.frame.columns
    tickers = list(dict.fromkeys(name.partition(JOINED)[2] for name in rest))
    parts = []
    for ticker in tickers:
        fields = {name: name.partition(JOINED)[0] for name in rest if name.partition(JOINED)[2] == ticker}
        part = table.frame[[stamp, *fields]].rename(columns=fields)
        parts.append(part.dropna(how="all", subset=list(fields.values())).assign(ticker=ticker))
    return replace(table, frame=pd.concat(parts, ignore_index=True), symbol="ticker", text=None)


def _wanted(frame: pd.DataFrame, name: str, spec: DataSpec, path: Path) -> str | None:
    """Return the column that data.columns names, which the file must have."""
    wanted = spec.columns.get(name)
    if wanted is not None and wanted not in frame.columns:
        raise BadInputError(
            f"data.columns.{name}={wanted!r} is no column of {path} (it has: {_listed(frame)})"
        )
    return wanted


def _find(known: Mapping[str, list[str]], name: str, path: Path) -> str | None:
    """Return the column that has one of the names of ours, or None."""
    if name == "volume":
        return _volume(known, path)
    aliases = {"timestamp": STAMPS, "spread": SPREADS, **PRICES}[name]
    found = next((known[alias] for alias in aliases if alias in known), None)
    return _only(found, name, path)


def _only(found: list[str] | None, name: str, path: Path) -> str | None:
    """Return the one column of a name; refuse to choose among several."""
    if not found:
        return None
    if len(found) > 1:
        listed = " and ".join(map(repr, found))
        raise BadInputError(
            f"{path}: {listed} could both be the column of {name}: say which with "
            f"'data.columns.{name}=\"{found[0]}\"' "
            f"or 'data.columns.{name}=\"{found[1]}\"'"
        )
    return found[0]


def _volume(known: Mapping[str, list[str]], path: Path) -> str | None:
    """Return the column of the volume, of the base asset where units are named."""
    found = next((known[alias] for alias in VOLUMES if alias in known), None)
    if found:
        return _only(found, "volume", path)
    units = {unit: columns[0] for name, columns in known.items() if (unit := unit_of_volume(name))}
    base = [column for unit, column in units.items() if unit not in QUOTES]
    return next(iter(base or units.values()), None)


def _clock(frame: pd.DataFrame, stamp: str, known: Mapping[str, list[str]]) -> str | None:
    """Return the column of times of day beside a column of dates, or None."""
    day = next((known[name][0] for name in DAYS if name in known), None)
    if day is None or not (plain(stamp) in DAYS or plain(stamp) in CLOCKS):
        return None
    for name in CLOCKS:
        column = known.get(name, [""])[0]
        if column and column != day and len(frame) and _is_clock(frame[column]):
            return column
    return None


def _is_clock(values: "pd.Series[Any]") -> bool:
    """Return whether a column holds times of day, by its first and last value."""
    ends = values.dropna()
    if ends.empty:
        return False
    if pd.api.types.is_integer_dtype(ends):
        return bool(ends.max() <= 240000)
    texts = ends.iloc[[0, -1]].astype(str)
    return bool(texts.str.fullmatch(r"\s*\d{1,2}:?\d{2}(:?\d{2}(\.\d+)?)?\s*([AaPp][Mm])?").all())


def _told(found: Mapping[str, str | None], known: Mapping[str, list[str]], spec: DataSpec) -> list[str]:
    """Return which columns were taken under names that are not plainly ours."""
    taken = {
        name: column
        for name, column in found.items()
        if column and not spec.columns.get(name) and not _is_own(name, column, known)
    }
    shown = ", ".join(f"{name} {column!r}" for name, column in taken.items())
    return [f"columns taken as {shown}"] if shown else []


def _is_own(name: str, column: str, known: Mapping[str, list[str]]) -> bool:
    """Return whether a column's name is plainly ours; a stamp beside the end of the bar is worth a word."""
    if name == "timestamp":
        return not any(other in known for other in CLOSE_TIMES)
    return plain(column) in (name, name[:1], name[:3])


def _absent(frame: pd.DataFrame, absent: list[str], known: Mapping[str, list[str]], path: Path) -> str:
    """Return which columns are missing, which there are and what to type."""
    settings = " ".join(f"data.columns.{name}=NAME" for name in absent)
    ends = next((known[name][0] for name in CLOSE_TIMES if name in known), None)
    hint = f" (data.columns.timestamp={ends!r} data.stamp=end where it is the end of a bar)" if ends else ""
    only = hint if "timestamp" in absent else ""
    return (
        f"{path} has no column for {', '.join(map(repr, absent))} (it has: {_listed(frame)}): say which with "
        f"{settings}{only}"
    )


def _listed(frame: pd.DataFrame) -> str:
    names = [str(column) for column in frame.columns]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
