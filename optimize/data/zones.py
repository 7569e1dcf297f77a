"""Clocks that naive stamps are read in: a time zone, or one that runs whole hours beside it."""

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from envs.types import BoolArray
from optimize.errors import BadInputError

SHIFTED = re.compile(r"(.+?)([+-]\d{1,2})")
MAX_SHIFT_HOURS = 14
ALLOWED = (
    "an IANA name such as UTC or Europe/London, or one with whole hours added such as America/New_York+7, "
    "the usual server time of MetaTrader brokers"
)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock of naive stamps: local time of an IANA zone plus whole hours."""

    zone: str
    shift_hours: int = 0

    @property
    def text(self) -> str:
        """Return the clock as data.time_zone takes it."""
        return f"{self.zone}{self.shift_hours:+d}" if self.shift_hours else self.zone

    @property
    def shift(self) -> pd.Timedelta:
        """Return how far the clock runs ahead of its zone."""
        return pd.Timedelta(hours=self.shift_hours)


def is_clock(text: str) -> bool:
    """Return whether parse_clock reads text."""
    return _parse(text) is not None


def parse_clock(text: str) -> Clock:
    """Read `Area/City`, or `Area/City+7` for a clock that many hours ahead of the zone; refuse others."""
    clock = _parse(text)
    if clock is None:
        raise BadInputError(f"data.time_zone={text!r} must be {ALLOWED}")
    return clock


def localize(local: pd.DatetimeIndex, clock: Clock, ambiguous: BoolArray | None = None) -> pd.DatetimeIndex:
    """Return naive stamps of a clock as instants.

    A stamp that the zone skips is NaT, and so is one that comes twice, unless `ambiguous` (T,) marks
    those in summer time.
    """
    there = local - clock.shift
    if ambiguous is None:
        return there.tz_localize(clock.zone, ambiguous="NaT", nonexistent="NaT")
    return there.tz_localize(clock.zone, ambiguous=ambiguous, nonexistent="NaT")


def wall_time(stamps: pd.DatetimeIndex, clock: Clock) -> pd.DatetimeIndex:
    """Return instants as naive stamps of a clock."""
    return stamps.tz_convert(clock.zone).tz_localize(None) + clock.shift


def _parse(text: str) -> Clock | None:
    if is_zone(text):  # first, because Etc/GMT+5 is a zone
        return Clock(text)
    shifted = SHIFTED.fullmatch(text)
    if shifted is None or not is_zone(shifted[1]) or abs(int(shifted[2])) > MAX_SHIFT_HOURS:
        return None
    return Clock(shifted[1], int(shifted[2]))


def is_zone(name: str) -> bool:
    """Return whether the time zone database has name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
