"""Rows of CSV and Parquet files, as they are: what is wrong with them is for quality to say."""

import re
import stat
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import FloatArray
from optimize.data.bars import RawBars
from optimize.data.sources.timestamps import parse_stamps
from optimize.data.spec import COLUMNS, DataSpec
from optimize.errors import BadInputError, require

STAMP_NAMES = ("timestamp", "datetime", "date", "time", "open time", "open_time", "gmt time", "unix")
OPTIONAL = ("volume", "spread")  # 0 where the file has none
SUFFIXES = (".csv", ".parquet")
A_FILE_A_SYMBOL = "'data.path=\"{symbol}.csv\"' data.symbols=[btc,eth], quoted so"
SEPARATORS = (";", "\t")  # of CSV files, beside the comma
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
TIMEFRAME_WORD = re.compile(r"\d+(m|min|h|d)|(m|h|d)\d+|daily|hourly|minute|\d+minute|\d+hour", re.IGNORECASE)


def read_files(spec: DataSpec) -> list[RawBars]:
    """Read one file, or one a symbol where data.path holds "{symbol}"."""
    return [read_file(path, symbol, spec) for symbol, path in symbol_files(spec).items()]


def symbol_files(spec: DataSpec) -> dict[str, Path]:
    """Return the existing file of each symbol; an unnamed symbol is read off the file's name."""
    if not spec.path:
        raise BadInputError("data.path is missing: name a CSV or Parquet file, such as data.path=prices.csv")
    template = str(spec.path)
    if "{symbol}" in template:
        given = "given where data.path holds {symbol}, such as data.symbols=[btc,eth]"
        require(bool(spec.symbols), "data.symbols", spec.symbols, given)
        return {name: _existing(template.replace("{symbol}", name)) for name in spec.symbols}
    one = f"at most one name for one file; a file a symbol is {A_FILE_A_SYMBOL}"
    require(len(spec.symbols) <= 1, "data.symbols", spec.symbols, one)
    path = _existing(template)
    return {spec.symbols[0] if spec.symbols else symbol_of(path.stem): path}


def symbol_of(stem: str) -> str:
    """Return the word beside a timeframe (eurusd_1h_2017, daily_aapl), or the whole name where none tells."""
    words = stem.split("_")
    if len(words) == 1 or words[1].isdigit():
        return words[0].upper()
    at = next((row for row, word in enumerate(words) if TIMEFRAME_WORD.fullmatch(word)), None)
    if at is None:
        return stem.upper()
    return words[at - 1 if at else 1].upper()


def read_file(path: Path, symbol: str, spec: DataSpec, content: bytes | None = None) -> RawBars:
    """Read and parse one file, or the content of a Parquet file that was read before."""
    frame = _read(path, content)
    if frame.empty:
        raise BadInputError(f"{path} has no rows: choose another data.path")
    found = _find_columns(frame, spec, path)
    values = {name: _numbers(frame, found[name], path) for name in COLUMNS if name != "timestamp"}
    spread = values.pop("spread")
    ohlcv = np.stack(list(values.values()), axis=1)
    timestamp, clock = parse_stamps(_stamp_column(frame, found["timestamp"], spec), spec, path)
    if spec.drop_nan:
        kept = np.isfinite(ohlcv[:, :4]).all(axis=1) & np.isfinite(spread)
        ohlcv[~np.isfinite(ohlcv[:, 4]), 4] = 0.0  # a price is worth its row; zero_volume tells of the rest
        timestamp, ohlcv, spread = timestamp[kept], ohlcv[kept], spread[kept]
    has_volume = found["volume"] is not None
    return RawBars(
        symbol, str(path), timestamp, ohlcv, spread, spec.source_timeframe, has_volume, clock=clock
    )


def _existing(text: str) -> Path:
    """Return the absolute path of a file that exists and has a known suffix."""
    try:
        path = Path(text).expanduser().resolve()
        mode = path.stat().st_mode if path.exists() else 0
    except (OSError, RuntimeError, ValueError) as error:  # too long, no access, no such user, a NUL
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"data.path={text} cannot be opened ({reason}): give another path") from None
    if stat.S_ISDIR(mode):
        raise BadInputError(f"data.path={text} is a folder ({path}): name one file in it, .csv or .parquet")
    if not stat.S_ISREG(mode):
        raise BadInputError(f"data.path={text}: no such file {path}; type data.path=FILE.csv or FILE.parquet")
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"data.path={text}: suffix {path.suffix!r} is unknown, use one of {SUFFIXES}")
    return path


def _read(path: Path, content: bytes | None) -> pd.DataFrame:
    """Return the file as a frame; an index with a name becomes a column."""
    try:
        if path.suffix.lower() == ".csv":
            frame = pd.read_csv(path, sep=_separator(path))
        else:
            # By its path pandas opens a file again and again, which may be replaced in between.
            frame = pd.read_parquet(BytesIO(path.read_bytes() if content is None else content))
    except (ValueError, OSError) as error:  # pandas' parser and Arrow's errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    return frame.reset_index() if frame.index.name is not None else frame


def _separator(path: Path) -> str:
    """Return what separates the names in the first line of a CSV file."""
    with path.open(encoding="utf-8") as stream:
        header = stream.readline()
    return max((",", *SEPARATORS), key=header.count)


def _find_columns(frame: pd.DataFrame, spec: DataSpec, path: Path) -> dict[str, str | None]:
    """Return the file's column of each of ours, None for an absent optional one."""
    found = {name: _find_column(frame, name, spec, path) for name in COLUMNS}
    absent = [name for name, column in found.items() if column is None and name not in OPTIONAL]
    if absent:
        listed = ", ".join(map(str, frame.columns))
        settings = " ".join(f"data.columns.{name}=NAME" for name in absent)
        raise BadInputError(
            f"{path} has no column for {', '.join(map(repr, absent))} (it has: {listed}): "
            f"say which with {settings}"
        )
    return found


def _find_column(frame: pd.DataFrame, name: str, spec: DataSpec, path: Path) -> str | None:
    """Return the file's column for our name, or None where it has none."""
    wanted = spec.columns.get(name)
    if wanted is not None:
        if wanted not in frame.columns:
            listed = ", ".join(map(str, frame.columns))
            raise BadInputError(f"data.columns.{name}={wanted!r} is no column of {path} (it has: {listed})")
        return wanted
    known = _plain_names(frame)
    aliases = STAMP_NAMES if name == "timestamp" else (name,)
    return next((known[alias] for alias in aliases if alias in known), None)


def _plain_names(frame: pd.DataFrame) -> dict[str, str]:
    """Return the columns by their names in lower case, without the blanks and brackets around them."""
    return {str(column).strip(" <>").lower(): str(column) for column in frame.columns}


def _stamp_column(frame: pd.DataFrame, column: str | None, spec: DataSpec) -> "pd.Series[Any]":
    """Return the stamps, a date column joined with the time column beside it."""
    known = _plain_names(frame)
    if spec.columns.get("timestamp") or column != known.get("date") or "time" not in known:
        return frame[str(column)]
    date, time = frame[known["date"]], frame[known["time"]]
    clock = time.astype(str)
    if pd.api.types.is_integer_dtype(time):  # 93000 was 093000 before it was read as a number
        clock = clock.str.zfill(4 if int(time.max()) < 2400 else 6)
    joined = (date.astype(str) + " " + clock).where(date.notna() & time.notna())
    return joined.rename(f"{known['date']} {known['time']}")


def _numbers(frame: pd.DataFrame, column: str | None, path: Path) -> FloatArray:
    """Return a column as float64 (T,); zeros for an absent one; text is refused."""
    if column is None:
        return np.zeros(len(frame))
    values = frame[column]
    numbers = pd.to_numeric(values, errors="coerce")
    text = numbers.isna() & values.notna()
    if text.any():
        row = int(text.to_numpy().argmax())
        value = values.iloc[row]
        remedy = "repair the file or choose another column with data.columns"
        if DECIMAL_COMMA.fullmatch(str(value)):
            remedy = "write numbers with a decimal point"
        raise BadInputError(
            f"{path}: column {column!r} holds {value!r} in data row {row + 1}, not a number; {remedy}"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
