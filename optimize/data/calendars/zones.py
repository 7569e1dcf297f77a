"""Clocks for timestamps without a zone: a time zone, or a time zone shifted by whole hours."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from optimize.errors import BadInputError, near_hint

if TYPE_CHECKING:  # DataSpec checks its time zone here, and must not load pandas for that
    import pandas as pd

    from envs.types import BoolArray

SHIFTED = re.compile(r"(.+?)([+-]\d{1,2})")
MAX_SHIFT_HOURS = 14
ALLOWED = (
    "an IANA name such as UTC or Europe/London, or one with whole hours added such as America/New_York+7, "
    "the usual server time of MetaTrader brokers"
)


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock of timestamps without a zone: local time of an IANA zone plus whole hours."""

    zone: str
    shift_hours: int = 0

    @property
    def text(self) -> str:
        """Return the clock in the form of data.time_zone."""
        return f"{self.zone}{self.shift_hours:+d}" if self.shift_hours else self.zone

    @property
    def shift(self) -> "pd.Timedelta":
        """Return the clock's lead over its zone."""
        import pandas as pd

        return pd.Timedelta(hours=self.shift_hours)


def is_clock(text: str) -> bool:
    """Return whether parse_clock accepts text."""
    return _parse(text) is not None


def parse_clock(text: str) -> Clock:
    """Parse `Area/City`, or `Area/City+7` for a clock 7 hours ahead of the zone; refuse anything else."""
    clock = _parse(text)
    if clock is None:
        raise BadInputError(f"data.time_zone={text!r} must be {ALLOWED}{near_hint(text, clocks_like(text))}")
    return clock


def clocks_like(text: str) -> list[str]:
    """Return every time zone, with the shift of a text where it has one: the names it may have meant."""
    shifted = SHIFTED.fullmatch(text)
    shift = "" if shifted is None else shifted[2]
    return [f"{zone}{shift}" for zone in sorted(available_timezones())]


def localize(
    local: "pd.DatetimeIndex", clock: Clock, ambiguous: "BoolArray | None" = None
) -> "pd.DatetimeIndex":
    """Convert local times of a clock to instants.

    A local time that the zone skips is NaT; so is one that occurs twice, unless `ambiguous` (T,) marks the
    times that are in summer time.
    """
    there = local - clock.shift
    if ambiguous is None:
        return there.tz_localize(clock.zone, ambiguous="NaT", nonexistent="NaT")
    return there.tz_localize(clock.zone, ambiguous=ambiguous, nonexistent="NaT")


def wall_time(stamps: "pd.DatetimeIndex", clock: Clock) -> "pd.DatetimeIndex":
    """Convert instants to local times of a clock."""
    return stamps.tz_convert(clock.zone).tz_localize(None) + clock.shift


def _parse(text: str) -> Clock | None:
    if is_zone(text):  # tested first, because Etc/GMT+5 is a zone
        return Clock(text)
    shifted = SHIFTED.fullmatch(text)
    if shifted is None or not is_zone(shifted[1]) or abs(int(shifted[2])) > MAX_SHIFT_HOURS:
        return None
    return Clock(shifted[1], int(shifted[2]))


def is_zone(name: str) -> bool:
    """Return whether the time zone database contains name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
