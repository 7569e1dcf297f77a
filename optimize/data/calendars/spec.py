"""Settings of the trading sessions."""

import re
from dataclasses import dataclass

from envs.fields import MARKET, check_ranges, setting
from optimize.errors import require

CLOCK_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


@dataclass(frozen=True)
class SessionSpec:
    """The calendar of trading sessions, and the forced exit before their end."""

    calendar: str = setting(
        "auto", MARKET, "Calendar of the sessions; auto finds it from the bars.",
        allowed="auto, 24/7, 24/5 (FX) or the code of an exchange such as XNYS",
    )  # fmt: skip
    flat_overnight: bool | None = setting(
        None,
        MARKET,
        "Whether every session ends without a position.",
        null="yes on an exchange whose source bars are intraday",
    )
    exit_time: str = setting(
        "15:45",
        MARKET,
        "Latest time of the forced exit, local to the exchange; not used by 24/7 and 24/5.",
        unit="HH:MM",
    )
    exit_minutes_before_close: int = setting(
        15, MARKET, "Least time between the forced exit and the session's close.", unit="minutes",
        low=0, high=720,
    )  # fmt: skip
    outside: str = setting(
        "keep", MARKET, "Whether bars outside of the sessions are kept or dropped.", choices=("keep", "drop")
    )

    def __post_init__(self) -> None:
        require(bool(self.calendar.strip()), "session.calendar", self.calendar, "auto, 24/7, 24/5, XNYS, ...")
        clock = bool(CLOCK_TIME.fullmatch(self.exit_time))
        require(clock, "session.exit_time", self.exit_time, "a local time HH:MM")
        check_ranges(self, "session")
