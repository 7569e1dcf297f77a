"""The format of a file and its table: text, Parquet, Feather or JSON; others are refused with a way out."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pandas as pd

from optimize.data.sources.columns import long_form
from optimize.data.sources.containers import PACKED, Content, read_content
from optimize.data.sources.frames import flat_table
from optimize.data.sources.headers import JOINED
from optimize.data.sources.records import read_json
from optimize.data.sources.tables import Table, read_text
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

TEXT = (".csv", ".txt", ".tsv", ".tab", ".dat", ".asc", ".prn", ".psv")
READ = (*TEXT, ".parquet", ".pq", ".feather", ".arrow", ".json", ".jsonl", ".ndjson", *PACKED)
SHOWN = ".csv, .txt, .tsv, .parquet, .feather, .json, or one of these as .gz or .zip"
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
SAME = {
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
TAR_AT = 257  # where a tar archive has its mark
JSON = (b"[{", b"[[", b'{"', b"{\n")
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE)
XML = re.compile(rb"\s*<\?xml", re.IGNORECASE)


def check_suffix(path: Path, text: str) -> None:
    """Refuse a suffix of no format that is read, with a way to one that is."""
    suffix = path.suffix.lower()
    if suffix in READ:
        return
    way = FOREIGN.get(SAME.get(suffix, suffix))
    if way is not None:
        raise BadInputError(f"data.path={text} {way}, and set data.path to that")
    raise BadInputError(f"data.path={text}: suffix {path.suffix!r} is unknown, use one of {SHOWN}")


def read_table(path: Path, spec: DataSpec, data: bytes | None = None) -> Table:
    """Return the columns of a file, one row a bar; `data` is its content where it was read before."""
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
        table = read_json(content, spec)
    else:
        table = read_text(content, spec)
    if any(JOINED in str(name) for name in table.frame.columns):
        table = long_form(table)
    if table.frame.empty:
        raise BadInputError(f"{path} has no rows: choose another data.path")
    return replace(table, notes=(*content.notes, *table.notes))


def _binary(content: Content, kind: str, read: Callable[[BytesIO], pd.DataFrame]) -> Table:
    """Return the columns of a Parquet or Feather file, its index among them."""
    try:
        frame = read(BytesIO(content.data))
    except Exception as error:  # Arrow raises errors of many kinds on damaged content
        raise BadInputError(
            f"{content.path} cannot be read as {kind.lower()}, for it is cut or damaged: write it again"
        ) from error
    return flat_table(frame, content.path)


def _refuse_foreign(content: Content) -> None:
    """Refuse content of a format that is not read, whatever the suffix."""
    head = content.data[:256]
    suffix = next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), None)
    suffix = suffix or (".tar" if content.data[TAR_AT : TAR_AT + 5] == b"ustar" else None)
    suffix = suffix or (".html" if WEB_PAGE.match(head) else ".xml" if XML.match(head) else None)
    if suffix is not None:
        raise BadInputError(f"{content.path} {FOREIGN[suffix]}, and set data.path to that")
