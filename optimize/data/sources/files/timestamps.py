"""Parse the timestamps of a file, in any supported form, to UTC nanoseconds."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from envs.types import IntArray
from optimize.data.calendars.zones import Clock, is_zone, localize, parse_clock
from optimize.data.sources.files.epochs import read_epoch
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

OFFSET = r":\d{2}(?:\.\d+)?\s*(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)$"  # time of day with a zone
GMT_OFFSET = r"\s*(?:GMT|UTC)\s*([+-])(\d{1,2}):?(\d{2})?$"
GMT = r"\s*(?:GMT|UTC|Etc/UTC)$"
NAMED_ZONE = r"\s+([A-Za-z]+(?:/[A-Za-z_]+)+|E[SD]T|P[SD]T|M[SD]T|CES?T)$"
ABBREVIATED = {"EST": "-05:00", "EDT": "-04:00", "PST": "-08:00", "PDT": "-07:00", "MST": "-07:00",
               "MDT": "-06:00", "CET": "+01:00", "CEST": "+02:00"}  # fmt: skip
MIDNIGHT = r"\b24:00(?::00(?:\.0+)?)?\b"
SLASHED = r"^(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?:\s+\d{1,2}((?::\d{2}){1,2})(\s*[AaPp][Mm])?)?$"
DOTTED = r"^\d{1,2}\.\d{1,2}\.\d{4}"
EPOCH_NUMBER = r"^-?\d{8,19}(?:\.\d+)?$"
WORDED = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%Y-%b-%d", "%a %b %d %Y",
          "%b %d %Y", "%Y-%m-%d %I-%p", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
          "%Y%m%d %H:%M:%S", "%Y%m%d-%H:%M:%S")  # fmt: skip
TIME_FORMATS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p")
MOST_FORMS = 100  # distinct forms searched for the first invalid timestamp
RELATIVE = ("now", "today")  # pandas would read these as the current time


@dataclass(frozen=True, slots=True)
class ParsedTimestamps:
    """Timestamps as instants, and how they were read."""

    ns: IntArray  # (T,) UTC nanoseconds
    clock: str | None  # data.time_zone applied to timestamps without a zone; None: they had one
    notes: tuple[str, ...] = ()  # assumptions made


def parse_timestamps(values: "pd.Series[Any]", spec: DataSpec, path: Path) -> ParsedTimestamps:
    """Parse numbers, texts or datetimes, with or without a zone.

    Numbers since 1970 are UTC, unless data.time_zone is a shifted zone: brokers count them on their own
    clock.
    """
    clock = parse_clock(spec.time_zone)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if values.isna().any():
        row = int(values.isna().to_numpy().argmax())
        raise BadInputError(f"{path}: data row {row + 1} has no timestamp; repair the file")
    notes: tuple[str, ...] = ()
    try:
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
            raise ValueError("it holds no times")
        if pd.api.types.is_datetime64_any_dtype(values):
            stamps = pd.DatetimeIndex(values)
        elif pd.api.types.is_numeric_dtype(values) and spec.time_format is None:
            kind = np.float64 if pd.api.types.is_float_dtype(values) else np.int64
            stamps, notes = read_epoch(values.to_numpy(dtype=kind))
            stamps = stamps.tz_localize(None) if clock.shift_hours else stamps
        else:
            stamps, named, notes = _parse_text(values.astype(str), spec)
            clock = clock if named is None else Clock(named)
        stamps = stamps.as_unit("ns")
    except (ValueError, OverflowError) as error:
        raise BadInputError(f"{path}: {_unread(values, spec, error)}") from error
    if stamps.tz is None:
        return ParsedTimestamps(
            _localize(stamps, clock, path).tz_convert("UTC").asi8.copy(), clock.text, notes
        )
    return ParsedTimestamps(stamps.tz_convert("UTC").asi8.copy(), None, notes)


def _localize(local: pd.DatetimeIndex, clock: Clock, path: Path) -> pd.DatetimeIndex:
    """Apply the clock to local times; refuse times that a clock change skips or repeats."""
    stamps = localize(local, clock)
    unclear = np.flatnonzero(stamps.isna())
    if len(unclear):
        first, row = local[unclear[0]], int(unclear[0]) + 1
        more = f" (and {len(unclear) - 1} more)" if len(unclear) > 1 else ""
        twice = localize(local[unclear[:1]], clock, ambiguous=np.array([True]))
        change, remedy = "comes twice", f"stamps that all have their offset, such as {twice[0]}"
        if twice.isna().all():
            change, remedy = "is skipped", "another data.time_zone (Etc/GMT+5 is New York's winter all year)"
        raise BadInputError(
            f"{path}: {first} in data row {row}{more} is not one instant in data.time_zone={clock.text}, "
            f"whose clocks change then, so that it {change}: give UTC stamps or {remedy}"
        )
    return stamps


def _unread(values: "pd.Series[Any]", spec: DataSpec, error: ValueError | OverflowError) -> str:
    """Return the message on unreadable timestamps: the value, the supported forms and the settings to use."""
    prefix = f"column {values.name!r} cannot be read as time: it holds"
    if pd.api.types.is_numeric_dtype(values) and spec.time_format is None:
        return (
            f"{prefix} {values.iloc[0]}, read as seconds, milli-, micro- or nanoseconds since 1970 or as the "
            "digits "
            f"of a date (20240131, 202401311430): {_reason(error)}; name another column with "
            "data.columns.timestamp, or their format with data.time_format"
        )
    came = f"{prefix} {str(values.iloc[0])!r}" + _unlike_the_first(values, spec.time_format)
    if spec.time_format is not None:
        quoted = f"'data.time_format=\"{spec.time_format}\"'"
        return f"{came}, which {quoted} does not read ({_reason(error)}): write the format of the whole stamp"
    slashed = values.astype(str).str.strip().str.extract(SLASHED)
    if slashed[0].isna().any():
        return (
            f"{came} and is read as ISO 8601 (2024-01-31 14:30), dd.mm.yyyy or a number since 1970, but "
            f"{_reason(error)}; where all are written alike set data.time_format, such as "
            "'data.time_format=\"%d-%b-%Y %H:%M\"'"
        )
    colons = int(slashed[3].fillna("").str.count(":").max())
    half = bool(slashed[4].notna().any())
    clock = ("", " %I:%M", " %I:%M:%S")[colons] + " %p" if half else ("", " %H:%M", " %H:%M:%S")[colons]
    year = "%Y" if len(str(slashed[2].iloc[0])) == 4 else "%y"
    month_first, day_first = (f"'data.time_format=\"{order}/{year}{clock}\"'" for order in ("%m/%d", "%d/%m"))
    first, second = slashed[0].astype(int).max(), slashed[1].astype(int).max()
    chosen = month_first if second > 12 else day_first if first > 12 else f"{month_first} or {day_first}"
    return (
        f"{came}, but ISO 8601 (2024-01-31 14:30), dd.mm.yyyy and numbers since 1970 are read: say which is "
        f"the month with {chosen}"
    )


def _unlike_the_first(values: "pd.Series[Any]", time_format: str | None) -> str:
    """Return the first invalid timestamp in another form than the first one; empty if there is none."""
    texts = values.astype(str).str.strip()
    forms = texts.str.replace(r"\d", "9", regex=True)
    for form in forms.drop_duplicates().iloc[1:MOST_FORMS]:
        row = int((forms == form).to_numpy().argmax())
        try:
            pd.to_datetime(texts.iloc[row], format=time_format)
        except (ValueError, OverflowError):
            return f", and {texts.iloc[row]!r} in data row {row + 1},"
    return ""


def _reason(error: ValueError | OverflowError) -> str:
    """Return pandas' error message without its advice."""
    return str(error).splitlines()[0].partition(". You might")[0].rstrip(".:")


def _parse_text(
    values: "pd.Series[str]", spec: DataSpec
) -> tuple[pd.DatetimeIndex, str | None, tuple[str, ...]]:
    """Parse timestamps in data.time_format or an unambiguous form; return the zone they name."""
    if spec.time_format is None:
        try:
            plain = pd.DatetimeIndex(pd.to_datetime(values, format="ISO8601"))
        except ValueError:
            plain = None
        if plain is not None and not values.isin(RELATIVE).any() and not values.iloc[0].isdigit():
            return plain, None, ()
    values = values.str.strip()
    if spec.time_format is None and values.str.fullmatch(EPOCH_NUMBER).all():
        stamps, notes = read_epoch(pd.to_numeric(values).to_numpy())
        return stamps, None, notes
    zoned = spec.time_format is not None and "%z" in spec.time_format.lower()
    values, zone, notes = (values, None, ()) if zoned else _with_offsets(values)
    late = values.str.contains(MIDNIGHT, regex=True)
    if late.any():
        notes = (*notes, f"24:00 in {late.sum()} stamps is 00:00 of the next day")
        values = values.str.replace(MIDNIGHT, "00:00:00" if _has_seconds(values) else "00:00", regex=True)
    stamps, form_notes = _parse_forms(values, spec.time_format)
    if late.any():
        stamps = stamps + pd.to_timedelta(late.to_numpy().astype(np.int64), unit="D")
    return stamps, zone, (*notes, *form_notes)


def _has_seconds(values: "pd.Series[str]") -> bool:
    """Return whether times of day have seconds, judged by the first value."""
    return bool(re.search(r"\d{1,2}:\d{2}:\d{2}", str(values.iloc[0])))


def _with_offsets(values: "pd.Series[str]") -> tuple["pd.Series[str]", str | None, tuple[str, ...]]:
    """Convert GMT+0100 and EST to offsets; strip and return a zone name common to all timestamps."""
    first = str(values.iloc[0])
    if re.search(GMT_OFFSET, first):
        parts = values.str.extract(GMT_OFFSET)
        offset = parts[0] + parts[1].str.zfill(2) + ":" + parts[2].fillna("00")
        return values.str.replace(GMT_OFFSET, "", regex=True) + offset.fillna(""), None, ()
    if re.search(GMT, first):
        return values.str.replace(GMT, "+00:00", regex=True), None, ()
    if not re.search(NAMED_ZONE, first):
        return values, None, ()
    named = values.str.extract(NAMED_ZONE)[0]
    bare = values.str.replace(NAMED_ZONE, "", regex=True)
    if named.isin(ABBREVIATED).all():
        return bare + named.map(ABBREVIATED), None, (f"{', '.join(named.unique())} read as offsets",)
    if named.nunique(dropna=False) == 1 and is_zone(str(named.iloc[0])):
        return bare, str(named.iloc[0]), (f"the stamps name their zone, {named.iloc[0]}",)
    return values, None, ()


def _parse_forms(
    values: "pd.Series[str]", time_format: str | None
) -> tuple[pd.DatetimeIndex, tuple[str, ...]]:
    """Parse timestamps in time_format, as dd.mm.yyyy, with a month's name, or as ISO 8601."""
    zoned = values.str.contains(OFFSET, regex=True)
    if zoned.any() and not zoned.all():
        raise ValueError("some stamps name a time zone and some do not")
    utc = bool(zoned.all()) or (time_format is not None and "%z" in time_format)
    if time_format is not None:
        return pd.DatetimeIndex(pd.to_datetime(values, format=time_format, utc=utc)), ()
    if values.str.match(DOTTED).all():
        return pd.DatetimeIndex(pd.to_datetime(values, dayfirst=True, utc=utc)), ()
    if values.isin(RELATIVE).any():
        raise ValueError("'now' and 'today' are not timestamps")
    form = next((form for form in _forms() if _reads(values.iloc[0], form)), None)
    if form is not None:
        return pd.DatetimeIndex(pd.to_datetime(values.str.replace(r"\s+", " ", regex=True), format=form)), ()
    return pd.DatetimeIndex(pd.to_datetime(values, format="ISO8601", utc=utc)), ()


def _forms() -> list[str]:
    """Return the formats with a month's name or a 12-hour clock."""
    timed = [form for form in WORDED if "%H" in form or "%I" in form]
    return [*timed, *(form + clock for form in WORDED if form not in timed for clock in TIME_FORMATS)]


def _reads(value: str, form: str) -> bool:
    """Return whether a format parses a timestamp."""
    try:
        pd.to_datetime(re.sub(r"\s+", " ", value), format=form)
    except ValueError:
        return False
    return True
