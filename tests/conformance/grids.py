"""Symbols on grids of every kind, sampled from one path of a random walk: nobody can earn there."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray, Market
from optimize.data.bars import Bars, RawBars, join_bars, make_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import market_of
from optimize.data.timeframes import DAY_NS, HOUR_NS, MINUTE_NS, timeframe_ns
from tests.optimize.data.samples import stamp

START = stamp("2024-01-01")
MINUTES = 400 * 24 * 60
FEATURE = FeatureSpec(indicators=["returns", "range", "bollinger", "cmf", "time_of_day"])
DAILY = FeatureSpec(indicators=["returns", "range", "bollinger", "cmf"])
BOUND = 4.0  # standard errors: of some twenty tests of luck alone, one in a thousand would be beyond it


def walk(seed: int) -> FloatArray:
    """Return the path: the price at each minute from START."""
    steps = np.random.default_rng(seed).normal(0.0, 4e-4, MINUTES + 2 * 24 * 60)
    return np.asarray(100.0 * np.exp(np.cumsum(steps)))


PATH = walk(0)


def at(path: FloatArray, stamps: IntArray) -> FloatArray:
    return np.asarray(path[(stamps - START) // MINUTE_NS])


def bars_of(path: FloatArray, symbol: str, starts: IntArray, timeframe: str) -> Bars:
    """Sample the path: a bar opens at the price of its start and closes at that of its end."""
    empty = np.ones((len(starts), 5))
    bars = make_bars(RawBars(symbol, "path", starts, empty, np.zeros(len(starts)), timeframe))
    edges = np.stack([starts, bars.bar_end + MINUTE_NS], axis=1).ravel()  # the price at the end is the bar's
    rows = (edges - START) // MINUTE_NS
    high, low = np.maximum.reduceat(path, rows)[::2], np.minimum.reduceat(path, rows)[::2]
    open_, close = at(path, starts), at(path, bars.bar_end)
    columns = (open_, high, low, close, 10.0 + np.round(close))
    one = [np.ascontiguousarray(column[:, None]) for column in columns]
    return replace(bars, open=one[0], high=one[1], low=one[2], close=one[3], volume=one[4])


def every(timeframe: str, phase: int = 0, days: int = 60) -> IntArray:
    """Return starts around the clock, a number of minutes past the grid of UTC."""
    first = START + DAY_NS + phase * MINUTE_NS
    return np.arange(first, START + days * DAY_NS, timeframe_ns(timeframe), dtype=np.int64)


def midnights(zone: str, *, weekdays: bool = False, hour: int = 0) -> IntArray:
    """Return an hour of each local day over a year with both clock changes."""
    days = pd.date_range("2024-01-03", "2025-01-20", freq="D")
    days = days[days.day_of_week < 5] if weekdays else days
    return (days + pd.Timedelta(hours=hour)).tz_localize(zone).tz_convert("UTC").as_unit("ns").asi8


def hours_of_day(starts: IntArray, first: float, last: float) -> IntArray:
    """Keep the starts on weekdays within hours of the day, UTC."""
    hour = starts % DAY_NS / HOUR_NS
    weekday = (starts // DAY_NS + 3) % 7 < 5
    return starts[(hour >= first) & (hour < last) & weekday]


def some(starts: IntArray, share: float = 0.8) -> IntArray:
    """Lose some bars at random."""
    kept = np.random.default_rng(len(starts)).random(len(starts)) < share
    kept[:2] = True
    return starts[kept]


@dataclass(frozen=True)
class Case:
    """Symbols on grids of one timeframe, and the market made of them."""

    timeframe: str
    grids: tuple[IntArray, ...]
    target: str
    calendar: str = "24/7"
    feature: FeatureSpec = FEATURE

    def parts(self, path: FloatArray) -> list[Bars]:
        """Return the bars of each symbol."""
        return [bars_of(path, f"S{row}", grid, self.timeframe) for row, grid in enumerate(self.grids)]

    def market(self, parts: list[Bars]) -> Market:
        """Join the bars and build the market."""
        return market_of(join_bars(parts), self.target, self.feature, SessionSpec(calendar=self.calendar))


HIGHER = replace(FEATURE, higher_timeframes=["4h"])
NEW_YORK, LONDON, TOKYO = "America/New_York", "Europe/London", "Asia/Tokyo"
HOURS, QUARTERS, FIVE = every("1h"), every("15m"), every("5m", days=40)
STOCKS = hours_of_day(QUARTERS, 14.5, 21)
LUNCH = np.sort(np.concatenate([hours_of_day(every("2h", 60), 1, 4), hours_of_day(every("2h", 30), 4.5, 5)]))
UTC_DAYS = midnights("UTC")


def daily(*grids: IntArray, calendar: str = "24/7") -> Case:
    """Return symbols of daily bars."""
    return Case("1d", grids, "1d", calendar, DAILY)


CASES = {
    "same hours, some lost": Case("1h", (some(HOURS), some(HOURS, 0.7)), "1h", feature=HIGHER),
    "crypto beside stock hours": Case("1h", (HOURS, hours_of_day(HOURS, 14, 21)), "1h"),
    "minutes of crypto and stocks": Case("5m", (FIVE, hours_of_day(FIVE, 14.5, 21)), "1h", feature=HIGHER),
    "half past everywhere": Case("1h", (every("1h", 30), hours_of_day(every("1h", 30), 14, 20)), "2h"),
    "stocks that end flat": Case("15m", (STOCKS, some(STOCKS)), "30m", "XNYS"),
    "Asia before America": Case(
        "1h", (hours_of_day(HOURS, 0, 6), hours_of_day(every("1h", 30), 14.5, 21)), "1h"
    ),
    "lunch breaks": Case("2h", (LUNCH, LUNCH), "2h"),
    "UTC and New York days": daily(UTC_DAYS, midnights(NEW_YORK)),
    "UTC days and New York weekdays": daily(UTC_DAYS, midnights(NEW_YORK, weekdays=True)),
    "New York days beside UTC, some lost": daily(some(midnights(NEW_YORK)), some(UTC_DAYS, 0.7)),
    "Tokyo, London and New York": daily(
        *(midnights(zone, weekdays=True) for zone in (TOKYO, LONDON, NEW_YORK)), calendar="24/5"
    ),
    "UTC days and those of FX": daily(UTC_DAYS, midnights(NEW_YORK, hour=17)),
    "UTC days and stamps of the opening": daily(UTC_DAYS, midnights(NEW_YORK, weekdays=True, hour=9)),
    "Auckland beside Honolulu": daily(midnights("Pacific/Auckland"), midnights("Pacific/Honolulu")),
}
