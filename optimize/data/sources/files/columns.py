"""Assign the columns of a file to ours, and select the rows of one symbol."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.files.column_names import (
    ADJUSTED_NAMES,
    CLOCK_NAMES,
    CLOSE_TIMES,
    DATE_NAMES,
    PRICE_ALIASES,
    QUOTES,
    SPREAD_NAMES,
    SYMBOL_NAMES,
    TIMESTAMP_NAMES,
    VOLUME_NAMES,
    columns_by_plain_name,
    plain_name,
    unit_of_volume,
)
from optimize.data.sources.files.headers import JOINED
from optimize.data.sources.files.tables import Table
from optimize.data.spec import BAR_COLUMNS, DataSpec
from optimize.errors import BadInputError, require

OPTIONAL_COLUMNS = ("volume", "spread")  # 0 if the file has none
SHOWN_COLUMNS = 30
A_FILE_A_SYMBOL = "'data.path=\"{symbol}.csv\"' data.symbols=[btc,eth], quoted so"
SHOWN_SYMBOLS = 8
MIXED = 4  # changes per symbol; a roll between futures contracts may go back and forth once
LOOSE = ("name", "code")  # names that may mean something other than a symbol


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a file's columns for each of ours."""

    timestamp: str
    open: str
    high: str
    low: str
    close: str
    volume: str | None
    spread: str | None
    clock: str | None = None  # time of day in a separate column next to the date
    tick_volume: str | None = None  # used if MetaTrader's real volume is always 0
    adjusted: str | None = None  # adjusted close
    metatrader: bool = False  # True: the spread is in points
    notes: tuple[str, ...] = ()

    @property
    def prices(self) -> tuple[str, str, str, str]:
        """Return the columns of open, high, low and close."""
        return self.open, self.high, self.low, self.close


def find_columns(frame: pd.DataFrame, spec: DataSpec, path: Path) -> Columns:
    """Return the file's column for each of ours; refuse a file that lacks one, with the settings to use."""
    known = columns_by_plain_name(frame.columns)
    found = {name: _wanted(frame, name, spec, path) or _find(known, name, path) for name in BAR_COLUMNS}
    absent = [name for name, column in found.items() if column is None and name not in OPTIONAL_COLUMNS]
    if absent:
        raise BadInputError(_absent(frame, absent, known, path))
    stamp = str(found["timestamp"])
    clock = None if spec.columns.get("timestamp") else _clock(frame, stamp, known)
    if clock is not None and plain_name(stamp) not in DATE_NAMES:
        stamp = next(known[name][0] for name in DATE_NAMES if name in known)
    ticks = next((known[name][0] for name in ("tickvolume", "tickvol") if name in known), None)
    adjusted = next((known[name][0] for name in ADJUSTED_NAMES if name in known), None)
    return Columns(
        timestamp=stamp,
        clock=clock,
        **{name: found[name] for name in BAR_COLUMNS if name != "timestamp"},  # type: ignore[arg-type]
        tick_volume=ticks if ticks != found["volume"] and not spec.columns.get("volume") else None,
        adjusted=adjusted,
        metatrader=ticks is not None,
        notes=tuple(_match_notes(found, known, spec)),
    )


def symbol_column(table: Table, spec: DataSpec) -> str | None:
    """Return the symbol column: the one in data.columns, or the one that the file's format implies."""
    wanted = _wanted(table.frame, "symbol", spec, table.path)
    return wanted or table.symbol


def named_symbols(frame: pd.DataFrame) -> str | None:
    """Return a column that is named like a symbol column and holds several values; None if there is none."""
    known = columns_by_plain_name(frame.columns)
    for name in SYMBOL_NAMES:
        for column in known.get(name, ()):
            if frame[column].nunique() > 1:
                return column
    return None


def long_form(table: Table) -> Table:
    """Convert a wide table (a column per field and ticker) to long form with a ticker column."""
    stamp, *rest = table.frame.columns
    tickers = list(dict.fromkeys(name.partition(JOINED)[2] for name in rest))
    parts = []
    for ticker in tickers:
        fields = {name: name.partition(JOINED)[0] for name in rest if name.partition(JOINED)[2] == ticker}
        part = table.frame[[stamp, *fields]].rename(columns=fields)
        parts.append(part.dropna(how="all", subset=list(fields.values())).assign(ticker=ticker))
    return replace(table, frame=pd.concat(parts, ignore_index=True), symbol="ticker", text=None)


def _wanted(frame: pd.DataFrame, name: str, spec: DataSpec, path: Path) -> str | None:
    """Return the column set in data.columns; refuse one that the file does not have."""
    wanted = spec.columns.get(name)
    if wanted is not None and wanted not in frame.columns:
        raise BadInputError(
            f"data.columns.{name}={wanted!r} is not a column of {path} (it has: {_listed(frame)})"
        )
    return wanted


def _find(known: Mapping[str, list[str]], name: str, path: Path) -> str | None:
    """Return the column with a known name of one of ours; None if there is none."""
    if name == "volume":
        return _volume(known, path)
    aliases = {"timestamp": TIMESTAMP_NAMES, "spread": SPREAD_NAMES, **PRICE_ALIASES}[name]
    found = next((known[alias] for alias in aliases if alias in known), None)
    return _only(found, name, path)


def _only(found: list[str] | None, name: str, path: Path) -> str | None:
    """Return the only column found; refuse several."""
    if not found:
        return None
    if len(found) > 1:
        listed = " and ".join(map(repr, found))
        raise BadInputError(
            f"{path}: {listed} could both be the column of {name}: choose one by "
            f"'data.columns.{name}=\"{found[0]}\"' "
            f"or 'data.columns.{name}=\"{found[1]}\"'"
        )
    return found[0]


def _volume(known: Mapping[str, list[str]], path: Path) -> str | None:
    """Return the volume column, that in units of the base asset if columns name units."""
    found = next((known[alias] for alias in VOLUME_NAMES if alias in known), None)
    if found:
        return _only(found, "volume", path)
    units = {unit: columns[0] for name, columns in known.items() if (unit := unit_of_volume(name))}
    base = [column for unit, column in units.items() if unit not in QUOTES]
    return next(iter(base or units.values()), None)


def _clock(frame: pd.DataFrame, stamp: str, known: Mapping[str, list[str]]) -> str | None:
    """Return the column of times of day next to a column of dates; None if there is none."""
    day = next((known[name][0] for name in DATE_NAMES if name in known), None)
    if day is None or not (plain_name(stamp) in DATE_NAMES or plain_name(stamp) in CLOCK_NAMES):
        return None
    for name in CLOCK_NAMES:
        column = known.get(name, [""])[0]
        if column and column != day and len(frame) and _is_clock(frame[column]):
            return column
    return None


def _is_clock(values: "pd.Series[Any]") -> bool:
    """Return whether a column holds times of day, judged by its first and last value."""
    ends = values.dropna()
    if ends.empty:
        return False
    if pd.api.types.is_integer_dtype(ends):
        return bool(ends.max() <= 240000)
    texts = ends.iloc[[0, -1]].astype(str)
    return bool(texts.str.fullmatch(r"\s*\d{1,2}:?\d{2}(:?\d{2}(\.\d+)?)?\s*([AaPp][Mm])?").all())


def _match_notes(
    found: Mapping[str, str | None], known: Mapping[str, list[str]], spec: DataSpec
) -> list[str]:
    """Return a note on columns that were matched by a name other than our own."""
    taken = {
        name: column
        for name, column in found.items()
        if column and not spec.columns.get(name) and not _is_own(name, column, known)
    }
    shown = ", ".join(f"{name} {column!r}" for name, column in taken.items())
    return [f"columns taken as {shown}"] if shown else []


def _is_own(name: str, column: str, known: Mapping[str, list[str]]) -> bool:
    """Return whether a column has our own name; a timestamp next to a bar-end column always gets a note."""
    if name == "timestamp":
        return not any(other in known for other in CLOSE_TIMES)
    return plain_name(column) in (name, name[:1], name[:3])


def _absent(frame: pd.DataFrame, absent: list[str], known: Mapping[str, list[str]], path: Path) -> str:
    """Return the message on missing columns: the existing ones and the settings to use."""
    settings = " ".join(f"data.columns.{name}=NAME" for name in absent)
    ends = next((known[name][0] for name in CLOSE_TIMES if name in known), None)
    hint = f" (data.columns.timestamp={ends!r} data.stamp=end where it is the end of a bar)" if ends else ""
    only = hint if "timestamp" in absent else ""
    return (
        f"{path} has no column for {', '.join(map(repr, absent))} (it has: {_listed(frame)}): name them by "
        f"{settings}{only}"
    )


def _listed(frame: pd.DataFrame) -> str:
    names = [str(column) for column in frame.columns]
    return ", ".join(names[:SHOWN_COLUMNS]) + (", ..." if len(names) > SHOWN_COLUMNS else "")


def rows_of_symbol(table: Table, symbol: str, spec: DataSpec) -> Table:
    """Return the rows of a symbol; all rows if the file has no symbol column."""
    column = symbol_column(table, spec)
    named = named_symbols(table.frame) if column is None else None
    many = len(spec.symbols) > 1 and "{symbol}" not in str(spec.path)
    if (
        named is not None
        and set(spec.symbols) <= set(_texts(table, named))
        and (spec.symbols or _repeats(table))
    ):
        column = named
    if column is None:
        one = f"at most one name for one file; a file a symbol is {A_FILE_A_SYMBOL}"
        require(not many, "data.symbols", spec.symbols, one)
        if named is None:
            return table
        _refuse_mixed(table, named)
        shown = _listed_symbols(_texts(table, named))
        return replace(table, notes=(*table.notes, f"column {named!r} changes ({shown}), read as one series"))
    texts = _texts(table, column)
    chosen = spec.symbols and symbol
    if not chosen and len(set(texts)) == 1:
        return table
    rows = [text == chosen for text in texts] if chosen else []
    if not any(rows):
        wanted = f"none of {chosen!r} among them" if chosen else "of which one market is made"
        names = list(dict.fromkeys(texts))
        raise BadInputError(
            f"{table.path} holds {len(names)} symbols in column {column!r} ({_listed_symbols(texts)}), "
            f"{wanted}: "
            f"choose with data.columns.symbol={column} data.symbols=[{','.join(names[:2])}]"
        )
    kept = table.frame[rows].reset_index(drop=True)
    selected = f"{sum(rows):,} of {len(rows):,} rows taken, those whose {column!r} is {chosen}"
    return replace(table, frame=kept, notes=(*table.notes, selected), text=None)


def _refuse_mixed(table: Table, column: str) -> None:
    """Refuse rows that alternate between symbols, unlike a series of futures contracts."""
    texts = [text.lower() for text in _texts(table, column)]
    changes = sum(text != above for above, text in pairwise(texts))
    if plain_name(column) in LOOSE or changes < MIXED * len(set(texts)):
        return
    names = _texts(table, column)
    raise BadInputError(
        f"{table.path}: column {column!r} goes back and forth between symbols ({_listed_symbols(names)}; "
        f"{changes:,} changes): choose with data.columns.symbol={column} data.symbols=[{names[0]}], or take "
        "the column out of the file where its rows are one series"
    )


def _texts(table: Table, column: str) -> list[str]:
    """Return a symbol column as text."""
    return [str(value).strip() for value in table.frame[column]]


def _repeats(table: Table) -> bool:
    """Return whether timestamps occur in several rows."""
    known = columns_by_plain_name(table.frame.columns)
    stamps = [known[name][0] for name in TIMESTAMP_NAMES if name in known]
    return bool(stamps) and bool(table.frame[stamps].duplicated().any())


def _listed_symbols(texts: list[str]) -> str:
    names = list(dict.fromkeys(texts))
    return ", ".join(names[:SHOWN_SYMBOLS]) + (", ..." if len(names) > SHOWN_SYMBOLS else "")
