"""Bars from CSV and Parquet files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray
from optimize.data.bars import Bars, join_bars, make_bars
from optimize.data.spec import COLUMNS, DataSpec
from optimize.errors import BadInputError, require

STAMP_NAMES = ("timestamp", "datetime", "date", "time", "open time", "open_time", "gmt time", "unix")
SUFFIXES = (".csv", ".parquet")
OFFSET = r":\d{2}(?:\.\d+)?\s*(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)$"  # a time of day that names its zone
DOTTED = r"^\d{1,2}\.\d{1,2}\.\d{4}"
EPOCH_UNITS_NS = (
    (1e11, 10**9),
    (1e14, 10**6),
    (1e17, 10**3),
    (np.inf, 1),
)  # bound, unit
FIRST_EPOCH_S = 1e8  # 1973; smaller numbers are dates like 20170131


def load_files(spec: DataSpec) -> Bars:
    """Load one file, or one a symbol where data.path holds "{symbol}"."""
    return join_bars([load_file(path, symbol, spec) for symbol, path in symbol_files(spec).items()])


def symbol_files(spec: DataSpec) -> dict[str, Path]:
    """Return the existing file of each symbol; an unnamed symbol is the file's stem up to the first _."""
    require(bool(spec.path), "data.path", spec.path, "a CSV or Parquet file, e.g. data.path=prices.csv")
    template = str(spec.path)
    if "{symbol}" in template:
        require(bool(spec.symbols), "data.symbols", spec.symbols, "given where data.path holds {symbol}")
        return {name: _existing(template.replace("{symbol}", name)) for name in spec.symbols}
    one = "at most one name for one file (put {symbol} into data.path to load a file a symbol)"
    require(len(spec.symbols) <= 1, "data.symbols", spec.symbols, one)
    path = _existing(template)
    return {spec.symbols[0] if spec.symbols else path.stem.split("_")[0].upper(): path}


def load_file(path: Path, symbol: str, spec: DataSpec) -> Bars:
    """Read, parse and check one file."""
    frame = _read(path)
    if frame.empty:
        raise BadInputError(f"{path} has no rows: choose another data.path")
    found = {name: _find_column(frame, name, spec, path) for name in COLUMNS}
    ohlcv = np.stack([_numbers(frame, found[name], path) for name in COLUMNS[1:]], axis=1)
    timestamp = _stamps(frame[found["timestamp"]], spec, path)
    if spec.drop_nan:
        kept = ~np.isnan(ohlcv).any(axis=1)
        timestamp, ohlcv = timestamp[kept], ohlcv[kept]
    return make_bars(symbol, timestamp, ohlcv, spec.source_timeframe, str(path))


def _existing(text: str) -> Path:
    """Return the absolute path of a file that exists and has a known suffix."""
    path = Path(text).expanduser().resolve()
    if path.is_dir():
        raise BadInputError(f"data.path={text} is a folder ({path}): name one file in it, .csv or .parquet")
    if not path.is_file():
        raise BadInputError(f"data.path={text}: no such file {path}; type data.path=FILE.csv or FILE.parquet")
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"data.path={text}: suffix {path.suffix!r} is unknown, use one of {SUFFIXES}")
    return path


def _read(path: Path) -> pd.DataFrame:
    """Return the file as a frame; an index with a name becomes a column."""
    try:
        frame = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pandas' parser and Arrow's errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    return frame.reset_index() if frame.index.name is not None else frame


def _find_column(frame: pd.DataFrame, name: str, spec: DataSpec, path: Path) -> str | None:
    """Return the file's column for our name, or None for an absent volume."""
    listed = ", ".join(map(str, frame.columns))
    if name in spec.columns:
        wanted = spec.columns[name]
        if wanted not in frame.columns:
            raise BadInputError(f"data.columns.{name}={wanted!r} is no column of {path} (it has: {listed})")
        return wanted
    lowered = {str(column).strip().lower(): str(column) for column in frame.columns}
    for alias in STAMP_NAMES if name == "timestamp" else (name,):
        if alias in lowered:
            return lowered[alias]
    if name == "volume":
        return None
    raise BadInputError(
        f"{path} has no column for {name!r} (it has: {listed}): say which with +data.columns.{name}=NAME"
    )


def _numbers(frame: pd.DataFrame, column: str | None, path: Path) -> FloatArray:
    """Return a column as float64 (T,); zeros for an absent one; text is refused."""
    if column is None:
        return np.zeros(len(frame))
    values = frame[column]
    numbers = pd.to_numeric(values, errors="coerce")
    text = numbers.isna() & values.notna()
    if text.any():
        row = int(text.to_numpy().argmax())
        raise BadInputError(
            f"{path}: column {column!r} holds {values.iloc[row]!r} in data row {row + 1}, not a number; "
            "repair the file or choose another column with data.columns"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _stamps(values: "pd.Series[Any]", spec: DataSpec, path: Path) -> IntArray:
    """Return UTC nanoseconds (T,) from numbers, texts or datetimes, naive or with a zone."""
    if values.isna().any():
        row = int(values.isna().to_numpy().argmax())
        raise BadInputError(f"{path}: data row {row + 1} has no timestamp; repair the file")
    try:
        if pd.api.types.is_numeric_dtype(values) and spec.time_format is None:
            stamps = _epoch(values.to_numpy())
        elif pd.api.types.is_datetime64_any_dtype(values):
            stamps = pd.DatetimeIndex(values)
        else:
            stamps = _parse_text(values.astype(str), spec.time_format)
        if stamps.tz is None:
            stamps = stamps.tz_localize(spec.time_zone, ambiguous="raise", nonexistent="raise")
        return stamps.tz_convert("UTC").as_unit("ns").asi8.copy()
    except ValueError as error:
        raise BadInputError(
            f"{path}: column {values.name!r} cannot be read as time in data.time_zone={spec.time_zone} "
            f"({str(error).splitlines()[0]}); give UTC stamps, or set data.time_format or data.time_zone"
        ) from error


def _epoch(values: FloatArray | IntArray) -> pd.DatetimeIndex:
    """Read seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size."""
    first = abs(float(values[0]))
    if first < FIRST_EPOCH_S:
        raise ValueError(f"{values[0]} is no time since 1970")
    if not np.isfinite(values).all() or np.abs(values).max() >= 1000 * first:
        raise ValueError("some stamps are infinite, or in another unit than the first")
    unit_ns = next(unit_ns for bound, unit_ns in EPOCH_UNITS_NS if first < bound)
    if values.dtype.kind == "f":
        return pd.DatetimeIndex(np.round(values * unit_ns).astype(np.int64), tz="UTC")
    return pd.DatetimeIndex(values.astype(np.int64) * unit_ns, tz="UTC")


def _parse_text(values: "pd.Series[str]", time_format: str | None) -> pd.DatetimeIndex:
    """Read stamps in time_format, as dd.mm.yyyy or as ISO 8601; all name a zone or none does."""
    zoned = values.str.contains(OFFSET, regex=True)
    if zoned.any() and not zoned.all():
        raise ValueError("some stamps name a time zone and some do not")
    utc = bool(zoned.all())
    if time_format is not None:
        parsed = pd.to_datetime(values, format=time_format, utc=utc)
    elif values.str.match(DOTTED).all():
        parsed = pd.to_datetime(values, dayfirst=True, utc=utc)
    else:
        parsed = pd.to_datetime(values, format="ISO8601", utc=utc)
    return pd.DatetimeIndex(parsed)
