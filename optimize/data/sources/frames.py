"""A table of columns from a frame whose index or columns have levels."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.headers import JOINED
from optimize.data.sources.names import OPEN_HIGH_LOW, SYMBOLS, is_stamp_name, plain
from optimize.data.sources.tables import Table


def flat_table(frame: pd.DataFrame, path: Path) -> Table:
    """Return the columns of a frame, its index among them, under plain names."""
    notes: list[str] = []
    frame, ticker = _one_level(frame, notes)
    index = _index_columns(frame, notes)
    symbol = next((name for name in index if plain(name) in SYMBOLS), None) if len(index) > 1 else None
    kept = frame.reset_index(drop=True)
    kept.columns = pd.Index([str(name) for name in kept.columns])
    levels = {name: values for name, values in index.items() if name not in kept.columns}
    flat = pd.concat([pd.DataFrame(levels), kept], axis=1) if levels else kept
    flat.columns = pd.Index(_numbered([str(name) for name in flat.columns]))
    table = Table(path, flat, tuple(notes), symbol)
    if ticker is not None and JOINED not in "".join(flat.columns):
        table = replace(table, notes=(*table.notes, f"the prices are of {ticker}"))
    return table


def _one_level(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, str | None]:
    """Return a frame whose columns have one level: the field, with the ticker where there are several."""
    if frame.columns.nlevels == 1:
        return frame, None
    levels = [frame.columns.get_level_values(level) for level in range(frame.columns.nlevels)]
    field = max(range(len(levels)), key=lambda at: len(OPEN_HIGH_LOW & {plain(name) for name in levels[at]}))
    others = [levels[at] for at in range(len(levels)) if at != field]
    tickers = ["/".join(str(level[row]) for level in others) for row in range(frame.shape[1])]
    several = len(set(tickers)) > 1
    names = [
        f"{name}{JOINED}{ticker}" if several else str(name)
        for name, ticker in zip(levels[field], tickers, strict=True)
    ]
    notes.append("its columns have a level of tickers")
    flat = frame.copy(deep=False)
    flat.columns = pd.Index(names)
    return flat, None if several else tickers[0]


def _index_columns(frame: pd.DataFrame, notes: list[str]) -> dict[str, "pd.Series[Any]"]:
    """Return the levels of the index as columns; one of plain row numbers is none."""
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return {}
    found: dict[str, pd.Series[Any]] = {}
    stamped = any(map(is_stamp_name, map(str, frame.columns)))
    for level in range(frame.index.nlevels):
        values = frame.index.get_level_values(level)
        name, dated = values.name, isinstance(values, pd.DatetimeIndex)
        if (
            name is None
            and not dated
            and (stamped or pd.api.types.is_integer_dtype(values))
            and frame.index.nlevels == 1
        ):
            continue
        taken = _level_name(name, dated=dated)
        if name is None:
            notes.append(f"the index, which has no name, taken as {taken}")
        found[taken] = pd.Series(values).reset_index(drop=True)
    return found


def _level_name(name: Hashable, *, dated: bool) -> str:
    """Return the name of a level of the index."""
    if name is not None:
        return str(name)
    return "timestamp" if dated else "symbol"


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names, a second one of the same name numbered."""
    made: list[str] = []
    for name in names:
        count = names[: len(made)].count(name)
        made.append(f"{name} ({count + 1})" if count else name)
    return made
