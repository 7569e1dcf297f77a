"""Detect a file's format and read its table; refuse unsupported formats with a way to convert them."""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.files.column_names import OPEN_HIGH_LOW, SYMBOL_NAMES, is_stamp_name, plain_name
from optimize.data.sources.files.columns import long_form
from optimize.data.sources.files.containers import PACKED, Content, read_content
from optimize.data.sources.files.headers import JOINED
from optimize.data.sources.files.records import read_json_table
from optimize.data.sources.files.tables import Table, read_text_table
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

TEXT_SUFFIXES = (".csv", ".txt", ".tsv", ".tab", ".dat", ".asc", ".prn", ".psv")
READ = (*TEXT_SUFFIXES, ".parquet", ".pq", ".feather", ".arrow", ".json", ".jsonl", ".ndjson", *PACKED)
READABLE_SUFFIXES = ".csv, .txt, .tsv, .parquet, .feather, .json, or one of these as .gz or .zip"
AS_CSV = "write it as CSV first"
FOREIGN = {
    ".npy": "is a NumPy array without stamps and names: write it as CSV first, by "
    "pandas.DataFrame(numpy.load(FILE), columns=[...]) with a column of stamps and .to_csv()",
    ".npz": "is a set of NumPy arrays: pandas.DataFrame(dict(numpy.load(FILE))).to_csv('bars.csv', "
    "index=False)",
    ".xlsx": "is a spreadsheet: save its sheet as CSV",
    ".xls": "is a spreadsheet: save its sheet as CSV",
    ".ods": "is a spreadsheet: save its sheet as CSV",
    ".h5": "is HDF5: pandas.read_hdf(FILE).to_parquet('bars.parquet')",
    ".pkl": "is a pickle, which runs code when it is read: where you trust it, "
    "pandas.read_pickle(FILE).to_parquet('bars.parquet')",
    ".db": "is a database: write the table of bars as CSV",
    ".mat": f"is a MATLAB file: {AS_CSV} (writetable)",
    ".rds": f"is an R file: {AS_CSV} (write.csv)",
    ".dta": "is a Stata file: pandas.read_stata(FILE).to_csv('bars.csv', index=False)",
    ".hst": "is MetaTrader's own history: export it as CSV in the History Center (F2)",
    ".hcc": "is MetaTrader's own history: export the bars as CSV in its Symbols window",
    ".bi5": "holds Dukascopy's ticks: download candles as CSV instead",
    ".dbn": "is Databento's own form: databento.DBNStore.from_file(FILE).to_csv('bars.csv')",
    ".tar": "is a tar archive: unpack it",
    ".pdf": f"is a document: {AS_CSV}",
    ".html": "is a web page and holds no table that is read: download the CSV file it links to",
    ".xml": f"is XML: {AS_CSV}",
}
SAME_FORMAT = {
    ".hdf5": ".h5", ".hdf": ".h5", ".pickle": ".pkl", ".joblib": ".pkl", ".sqlite": ".db", ".sqlite3": ".db",
    ".duckdb": ".db", ".xlsm": ".xlsx", ".rdata": ".rds", ".htm": ".html",
    ".tgz": ".tar",
}  # fmt: skip
MAGIC = {
    b"\x93NUMPY": ".npy",
    b"\x89HDF": ".h5",
    b"SQLite format 3": ".db",
    b"\xd0\xcf\x11\xe0": ".xls",
    b"%PDF": ".pdf",
    b"DBN": ".dbn",
    b"\x80\x04\x95": ".pkl",
    b"\x80\x05\x95": ".pkl",
}
TAR_AT = 257  # offset of a tar archive's magic bytes
JSON = (b"[{", b"[[", b'{"', b"{\n")
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE)
XML = re.compile(rb"\s*<\?xml", re.IGNORECASE)


def check_suffix(path: Path, text: str) -> None:
    """Refuse the suffix of an unsupported format, with a way to convert it."""
    suffix = path.suffix.lower()
    if suffix in READ:
        return
    way = FOREIGN.get(SAME_FORMAT.get(suffix, suffix))
    if way is not None:
        raise BadInputError(f"data.path={text} {way}, and set data.path to that")
    raise BadInputError(
        f"data.path={text}: suffix {path.suffix!r} is unknown, use one of {READABLE_SUFFIXES}"
    )


def read_table(path: Path, spec: DataSpec, data: bytes | None = None) -> Table:
    """Return the table of a file, one row per bar; `data` is its content if already read."""
    content = read_content(path, data)
    _refuse_foreign(content)
    if content.data.startswith(b"PAR1"):
        table = _binary(content, "Parquet", pd.read_parquet)
    elif content.data.startswith((b"ARROW1", b"FEA1")):
        table = _binary(content, "Feather", pd.read_feather)
    elif content.suffix in (".parquet", ".pq", ".feather", ".arrow"):
        raise BadInputError(
            f"{path} cannot be read as {content.suffix[1:]}: its content is none, or was cut; write it again"
        )
    elif content.suffix in (".json", ".jsonl", ".ndjson") or content.data[:64].lstrip()[:2] in JSON:
        table = read_json_table(content, spec)
    else:
        table = read_text_table(content, spec)
    if any(JOINED in str(name) for name in table.frame.columns):
        table = long_form(table)
    if table.frame.empty:
        raise BadInputError(f"{path} has no rows: choose another data.path")
    return replace(table, notes=(*content.notes, *table.notes))


def _binary(content: Content, kind: str, read: Callable[[BytesIO], pd.DataFrame]) -> Table:
    """Return the columns and index of a Parquet or Feather file."""
    try:
        frame = read(BytesIO(content.data))
    except Exception as error:  # Arrow raises many kinds of errors on damaged content
        raise BadInputError(
            f"{content.path} cannot be read as {kind.lower()}, for it is cut or damaged: write it again"
        ) from error
    return flat_table(frame, content.path)


def _refuse_foreign(content: Content) -> None:
    """Refuse content of an unsupported format, whatever its suffix."""
    head = content.data[:256]
    suffix = next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), None)
    suffix = suffix or (".tar" if content.data[TAR_AT : TAR_AT + 5] == b"ustar" else None)
    suffix = suffix or (".html" if WEB_PAGE.match(head) else ".xml" if XML.match(head) else None)
    if suffix is not None:
        raise BadInputError(f"{content.path} {FOREIGN[suffix]}, and set data.path to that")


def flat_table(frame: pd.DataFrame, path: Path) -> Table:
    """Return the columns and index of a frame as a table with one-level names."""
    notes: list[str] = []
    frame, ticker = _one_level(frame, notes)
    index = _index_columns(frame, notes)
    symbol = (
        next((name for name in index if plain_name(name) in SYMBOL_NAMES), None) if len(index) > 1 else None
    )
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
    """Return a frame with one level of column names: the field, plus the ticker if there are several."""
    if frame.columns.nlevels == 1:
        return frame, None
    levels = [frame.columns.get_level_values(level) for level in range(frame.columns.nlevels)]
    field = max(
        range(len(levels)), key=lambda at: len(OPEN_HIGH_LOW & {plain_name(name) for name in levels[at]})
    )
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
    """Return the levels of the index as columns; an index of row numbers is left out."""
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
    """Return the column name for a level of the index."""
    if name is not None:
        return str(name)
    return "timestamp" if dated else "symbol"


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names with repeated ones numbered."""
    made: list[str] = []
    for name in names:
        count = names[: len(made)].count(name)
        made.append(f"{name} ({count + 1})" if count else name)
    return made
