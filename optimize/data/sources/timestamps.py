"""Stamps of files, in whatever form, as UTC nanoseconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray
from optimize.data.spec import DataSpec
from optimize.data.zones import Clock, localize, parse_clock
from optimize.errors import BadInputError

OFFSET = r":\d{2}(?:\.\d+)?\s*(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)$"  # a time of day that names its zone
SLASHED = r"^(\d{1,2})/(\d{1,2})/\d{4}(\s+\d{1,2}(?::\d{2}){1,2})?$"
DOTTED = r"^\d{1,2}\.\d{1,2}\.\d{4}"
EPOCH_UNITS_NS = (
    (1e11, 10**9),
    (1e14, 10**6),
    (1e17, 10**3),
    (np.inf, 1),
)  # bound, unit
FIRST_EPOCH_S = 1e8  # 1973; smaller numbers are dates like 20170131


def parse_stamps(values: "pd.Series[Any]", spec: DataSpec, path: Path) -> tuple[IntArray, str | None]:
    """Return UTC nanoseconds (T,) of numbers, texts or datetimes, and the clock that naive ones were read in.

    Numbers since 1970 are UTC, unless data.time_zone runs hours beside a zone: a broker's numbers count on
    the broker's clock. The clock is None where the stamps are instants by themselves.
    """
    clock = parse_clock(spec.time_zone)
    if values.isna().any():
        row = int(values.isna().to_numpy().argmax())
        raise BadInputError(f"{path}: data row {row + 1} has no timestamp; repair the file")
    try:
        if pd.api.types.is_numeric_dtype(values) and spec.time_format is None:
            stamps = _epoch(values.to_numpy())
            stamps = stamps.tz_localize(None) if clock.shift_hours else stamps
        elif pd.api.types.is_datetime64_any_dtype(values):
            stamps = pd.DatetimeIndex(values)
        else:
            stamps = _parse_text(values.astype(str), spec.time_format)
        stamps = stamps.as_unit("ns")
    except ValueError as error:
        raise BadInputError(f"{path}: {_unread(values, spec, error)}") from error
    if stamps.tz is None:
        return _localize(stamps, clock, path).tz_convert("UTC").asi8.copy(), clock.text
    return stamps.tz_convert("UTC").asi8.copy(), None


def _localize(local: pd.DatetimeIndex, clock: Clock, path: Path) -> pd.DatetimeIndex:
    """Give naive stamps their zone; those that a clock change skips or repeats are no one instant."""
    stamps = localize(local, clock)
    unclear = np.flatnonzero(stamps.isna())
    if len(unclear):
        first, row = local[unclear[0]], int(unclear[0]) + 1
        more = f" (and {len(unclear) - 1} more)" if len(unclear) > 1 else ""
        twice = localize(local[unclear[:1]], clock, ambiguous=np.array([True]))
        what, remedy = "comes twice", f"stamps that all have their offset, such as {twice[0]}"
        if twice.isna().all():
            what, remedy = "is skipped", "another data.time_zone (Etc/GMT+5 is New York's winter all year)"
        raise BadInputError(
            f"{path}: {first} in data row {row}{more} is no one instant in data.time_zone={clock.text}, "
            f"whose clocks change then, so that it {what}: give UTC stamps or {remedy}"
        )
    return stamps


def _unread(values: "pd.Series[Any]", spec: DataSpec, error: ValueError) -> str:
    """Return what came, what is read and what to type, for stamps that could not be read."""
    what = f"column {values.name!r} cannot be read as time: it holds"
    if pd.api.types.is_numeric_dtype(values) and spec.time_format is None:
        return (
            f"{what} {values.iloc[0]}, read as seconds, milli-, micro- or nanoseconds since 1970: {error}; "
            "for dates such as 20240131 set data.time_format=%Y%m%d"
        )
    came = f"{what} {str(values.iloc[0])!r}"
    if spec.time_format is not None:
        quoted = f"'data.time_format=\"{spec.time_format}\"'"
        return f"{came}, which {quoted} does not read ({_reason(error)}): write the format of the whole stamp"
    slashed = values.astype(str).str.extract(SLASHED)
    if slashed[0].isna().any():
        return (
            f"{came} and is read as ISO 8601 (2024-01-31 14:30), dd.mm.yyyy or a number since 1970, but "
            f"{_reason(error)}; where all are written alike set data.time_format, such as "
            "'data.time_format=\"%d-%b-%Y %H:%M\"'"
        )
    clock = ("", " %H:%M", " %H:%M:%S")[slashed[2].fillna("").str.count(":").max()]
    month_first, day_first = (f"'data.time_format=\"{order}/%Y{clock}\"'" for order in ("%m/%d", "%d/%m"))
    first, second = slashed[0].astype(int).max(), slashed[1].astype(int).max()
    chosen = month_first if second > 12 else day_first if first > 12 else f"{month_first} or {day_first}"
    return (
        f"{came}, but ISO 8601 (2024-01-31 14:30), dd.mm.yyyy and numbers since 1970 are read: say which is "
        f"the month with {chosen}"
    )


def _reason(error: ValueError) -> str:
    """Return what pandas says was wrong, without its advice."""
    return str(error).splitlines()[0].partition(". You might")[0].rstrip(".:")


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
