"""Features of the time at the end of the bar, and of the session in which the bar ends."""

import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray
from optimize.data.features.registry import AssetBars, feature
from optimize.data.timeframes import DAY_NS, MINUTE_NS

MARKET_HOURS = {  # local time zone, minutes of the day at which it opens and closes
    "session_tokyo": ("Asia/Tokyo", 9 * 60, 15 * 60),
    "session_london": ("Europe/London", 8 * 60, 16 * 60 + 30),
    "session_new_york": ("America/New_York", 9 * 60 + 30, 16 * 60),
}
SATURDAY = 5


@feature("time_of_day", "time_of_day_sin", "time_of_day_cos", group="time", warmup=0, clock=True)
def time_of_day(bars: AssetBars) -> list[FloatArray]:
    """Return the UTC time of day at the bar's end, as sine and cosine."""
    return _circle(bars.bar_end, DAY_NS)


@feature("time_of_week", "time_of_week_sin", "time_of_week_cos", group="time", warmup=0, clock=True)
def time_of_week(bars: AssetBars) -> list[FloatArray]:
    """Return the UTC time of the week at the bar's end, as sine and cosine."""
    return _circle(bars.bar_end, 7 * DAY_NS)


@feature(
    "session_flags", *MARKET_HOURS, group="time", warmup=0, needs=("intraday",), kind="category", clock=True
)
def session_flags(bars: AssetBars) -> list[FloatArray]:
    """Return whether the bar ends in the weekday hours of Tokyo, London and New York; holidays count too."""
    return [_is_open(bars.bar_end, *hours) for hours in MARKET_HOURS.values()]


@feature("day_of_week", group="time", warmup=0, kind="category", clock=True)
def day_of_week(bars: AssetBars) -> list[FloatArray]:
    """Return the weekday of the session, from -1 (Monday) to 1 (Sunday)."""
    return [_weekday(bars) / 3.0 - 1.0]


@feature("weekend", group="time", warmup=0, kind="category", clock=True)
def weekend(bars: AssetBars) -> list[FloatArray]:
    """Return whether the session is on a Saturday or Sunday."""
    return [(_weekday(bars) >= SATURDAY).astype(np.float64)]


@feature("minutes_to_close", group="time", warmup=0, needs=("closing_time", "intraday"), clock=True)
def minutes_to_close(bars: AssetBars) -> list[FloatArray]:
    """Return the minutes from the bar's end to the close of its session, 0 after the close."""
    return [np.maximum(bars.session_close - bars.bar_end, 0) / MINUTE_NS]


def _circle(stamps: IntArray, period_ns: int) -> list[FloatArray]:
    """Return sine and cosine of the phase of timestamps within a period."""
    angle = 2.0 * np.pi * (stamps % period_ns) / period_ns
    return [np.sin(angle), np.cos(angle)]


def _is_open(bar_end: IntArray, time_zone: str, opens: int, closes: int) -> FloatArray:
    """Return 1 where the bar's last instant lies on a weekday between opens and closes (local minutes)."""
    stamps = pd.DatetimeIndex(bar_end - 1, tz="UTC").tz_convert(time_zone).tz_localize(None)
    local_ns = stamps.asi8
    minute = local_ns % DAY_NS // MINUTE_NS
    weekday = (local_ns // DAY_NS + 3) % 7  # 1970-01-01 was a Thursday
    is_open = (weekday < SATURDAY) & (minute >= opens) & (minute < closes)
    return np.asarray(is_open, dtype=np.float64)


def _weekday(bars: AssetBars) -> FloatArray:
    """Return the weekday (T,) of each bar's session, Monday 0."""
    return ((bars.session_date.astype("datetime64[D]").astype(np.int64) + 3) % 7).astype(np.float64)
