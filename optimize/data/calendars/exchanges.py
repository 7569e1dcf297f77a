"""Schedules of exchanges from exchange_calendars, within the years it records."""

import warnings
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd
from exchange_calendars.calendar_utils import get_calendar_names
from exchange_calendars.errors import CalendarError
from numpy.typing import NDArray

from optimize.errors import BadInputError, near_hint

MARGIN_DAYS = 14  # days of sessions beyond the data; longer than any market holiday
DAYS_A_YEAR = 365.25

Day = np.datetime64


@lru_cache(maxsize=32)
def exchange_schedule(name: str, start: Day, end: Day) -> tuple[pd.DataFrame, str]:
    """Return open, close and breaks of each session from start to end (exclusive), and the time zone.

    The schedule extends MARGIN_DAYS beyond either side, as far as the calendar is recorded.
    """
    first, last = _bounds(name)
    wide = max(start - MARGIN_DAYS, first), min(end + MARGIN_DAYS, last)
    spans = [wide, (max(start, first), min(end - 1, last))]
    if spans[1][0] > spans[1][1]:
        raise BadInputError(
            f"session.calendar={name!r} is recorded from {first} to {last}, and the bars are of {start} to "
            f"{end - 1}: set another session.calendar (24/5 has no holidays), or newer or older data"
        )
    reason = ""
    for span in spans:
        try:
            with warnings.catch_warnings():
                # exchange_calendars 4.13 calls pandas in ways that pandas 3.1 deprecates.
                warnings.simplefilter("ignore")
                calendar = exchange_calendars.get_calendar(name, start=str(span[0]), end=str(span[1]))
        except (ValueError, NotImplementedError, CalendarError) as error:
            reason = reason or _first_line(error)
        else:
            return calendar.schedule, str(calendar.tz)
    raise BadInputError(
        f"session.calendar={name!r} cannot be built for {start} to {end - 1}: exchange_calendars "
        f"{exchange_calendars.__version__} fails with pandas {pd.__version__} ({reason}): set another "
        "session.calendar; 24/5 has Monday to Friday without holidays"
    )


def sessions_per_year(date: NDArray[np.datetime64], start: Day, end: Day) -> float:
    """Return the sessions per year between start and end, estimated from the recorded part."""
    years = int((end.astype("datetime64[Y]") - start.astype("datetime64[Y]")).astype(np.int64))
    inside = (date >= start) & (date < end)
    late = (date[0] - start).astype(np.int64) if len(date) else 0
    early = (end - date[-1]).astype(np.int64) if len(date) else 0
    if max(late, early) <= MARGIN_DAYS:
        return float(inside.sum()) / years
    days = int((date[inside][-1] - date[inside][0]).astype(np.int64)) + 1
    return float(inside.sum()) / days * DAYS_A_YEAR


def _bounds(name: str) -> tuple[Day, Day]:
    """Return the first and the last day for which a calendar is recorded."""
    known = exchange_calendars.calendar_utils.global_calendar_dispatcher
    try:
        factory = known._calendar_factories[known.resolve_alias(name)]
    except (CalendarError, KeyError) as error:
        raise BadInputError(
            f"session.calendar={name!r} is unknown: use auto, 24/7, 24/5 or an exchange's code "
            f"such as XNYS, XLON, XTKS, XHKG{near_hint(name, ['auto', *get_calendar_names()])}"
        ) from error
    first, last = factory.bound_min(), factory.bound_max()
    return (
        np.datetime64("1900-01-01") if first is None else np.datetime64(first, "D"),
        np.datetime64("2200-12-31") if last is None else np.datetime64(last, "D"),
    )


def _first_line(error: Exception) -> str:
    """Return an error's first line, cut to a readable length."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 100 else text[:97] + "..."


def canonical_name(name: str) -> str:
    """Return the exchange code of an alias such as NYSE; other names are returned unchanged."""
    if name in ("24/7", "24/5"):
        return name
    try:
        return str(exchange_calendars.resolve_alias(name))
    except CalendarError:
        return name


def exchange_names() -> list[str]:
    """Return the codes of all exchanges, aliases left out."""
    names = get_calendar_names(include_aliases=False)
    return [name for name in names if name not in ("24/7", "24/5")]
