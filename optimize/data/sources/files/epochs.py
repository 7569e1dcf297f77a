"""Numeric timestamps: time since 1970 in any unit, digits of a date, or days of a spreadsheet."""

import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray
from optimize.data.timeframes import DAY_NS, SECOND_NS

EPOCH_UNITS = (("seconds", 10**9), ("milliseconds", 10**6), ("microseconds", 10**3), ("nanoseconds", 1))
LAST_S = 7_300_000_000  # year 2201; larger numbers are in a smaller unit
FIRST_S = 30 * 86_400  # a column that ends earlier holds row numbers, not times
DIGIT_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
SHEET_DAYS = (10_000, 90_000)  # 1927 to 2146, in days since 1899-12-30
SHEET_START_NS = pd.Timestamp("1899-12-30").as_unit("ns").value
UNIX_DAYS = 23_000  # before 2033 as days since 1970, before 1963 as spreadsheet days
MOSTLY_WEEKDAYS = (0.5, 0.95)  # share of neighbours one day apart in a series without weekends
DAY_MS = 86_400_000


def read_epoch(values: FloatArray | IntArray) -> tuple[pd.DatetimeIndex, tuple[str, ...]]:
    """Convert numbers to times and return notes on assumptions; UTC, or without a zone for dates and days."""
    if not np.isfinite(values).all():
        raise ValueError("some stamps are infinite")
    digits = _date_digits(values)
    if digits is not None:
        return digits
    if SHEET_DAYS[0] < values.min() and values.max() < SHEET_DAYS[1]:
        _refuse_doubtful_days(values)
        ns = np.round(values * (DAY_NS / SECOND_NS)).astype(np.int64) * SECOND_NS + SHEET_START_NS
        return pd.DatetimeIndex(ns), ("its stamps taken as the days of a spreadsheet (45292 is 2024-01-01)",)
    if len(values) > 2 and values.min() >= 0 and values.max() <= DAY_MS and (values % 1000 == 0).all():
        raise ValueError(f"{values[0]} is in milliseconds since midnight and names no day")
    if np.abs(values).max() < FIRST_S:
        raise ValueError(f"{values[0]} to {values[-1]} are row numbers or durations, and no times since 1970")
    unit, notes = _units(values)
    if values.dtype.kind == "f":
        return pd.DatetimeIndex(np.round(values * unit).astype(np.int64), tz="UTC"), notes
    return pd.DatetimeIndex(values.astype(np.int64) * unit, tz="UTC"), notes


def _refuse_doubtful_days(values: FloatArray | IntArray) -> None:
    """Refuse numbers that may be days since another date, seconds or row numbers."""
    first, last = values[0], values[-1]
    sheet, unix = (
        str(pd.Timestamp(day) + pd.Timedelta(days=int(first)))[:10] for day in ("1899-12-30", "1970")
    )
    if values.max() < UNIX_DAYS:
        raise ValueError(
            f"{first} to {last} count days, from {unix} on since 1970 or from {sheet} on as a spreadsheet "
            "does: write them as dates"
        )
    apart = np.abs(np.diff(values))
    weekdays = MOSTLY_WEEKDAYS[0] < float((apart == 1).mean() if len(apart) else 1.0) < MOSTLY_WEEKDAYS[1]
    if values.dtype.kind != "f" and not weekdays:
        raise ValueError(
            f"{first} to {last} are row numbers, seconds of a day, or days of a spreadsheet (from {sheet} "
            "on): write them as dates"
        )


def _date_digits(values: FloatArray | IntArray) -> tuple[pd.DatetimeIndex, tuple[str, ...]] | None:
    """Convert digits such as 20240131 or 202401311430; return None unless all are valid dates."""
    whole = values.astype(np.int64)
    width = len(str(int(whole[0])))
    form = DIGIT_FORMATS.get(width)
    if form is None or not _is_date(int(whole[0])) or not _is_date(int(whole[-1])):
        return None
    if values.dtype.kind == "f" and (whole != values).any():
        return None
    try:
        times = pd.to_datetime(pd.Series(whole).astype(str), format=form)
    except ValueError:
        return None
    if times.dt.year.min() < 1900 or times.dt.year.max() > 2100:
        return None
    return pd.DatetimeIndex(times), (
        f"its stamps taken as dates written {form} ({whole[0]} is {times.iloc[0]})",
    )


def _is_date(value: int) -> bool:
    """Return whether digits begin with a year 19xx or 20xx, a month and a day."""
    text = str(value)
    return text[:2] in ("19", "20") and "01" <= text[4:6] <= "12" and "01" <= text[6:8] <= "31"


def _units(values: FloatArray | IntArray) -> tuple[IntArray, tuple[str, ...]]:
    """Return the unit in nanoseconds: (1,) if it is the same for all timestamps, else (T,).

    A file may change from milliseconds to microseconds at some row. Of the two readings, one unit for all or
    one per timestamp by its size, the one with the smaller largest gap is used.
    """
    size = np.abs(values)
    bounds = [LAST_S, LAST_S * 1e3, LAST_S * 1e6]
    lengths = np.array([length for _, length in EPOCH_UNITS], dtype=np.int64)
    least, most = np.digitize([size.min(), size.max()], bounds)
    if least == most:
        return lengths[[least]], ()
    own = np.digitize(size, bounds)
    largest = np.full(len(values), own.max())
    if len(values) < 2 or _greatest_gap(values, lengths[largest]) <= _greatest_gap(values, lengths[own]):
        return lengths[largest], ()
    rows = np.flatnonzero(np.diff(own)) + 1
    row = int(rows[0])
    before, after = EPOCH_UNITS[own[row - 1]][0], EPOCH_UNITS[own[row]][0]
    more = f", and changes {len(rows) - 1} times more" if len(rows) > 1 else ""
    return lengths[own], (
        f"its stamps are {before} before data row {row + 1} and {after} from there on{more}",
    )


def _greatest_gap(values: FloatArray | IntArray, unit: IntArray) -> float:
    """Return the largest distance between neighbours in nanoseconds."""
    return float(np.abs(np.diff(values.astype(np.float64) * unit)).max())
