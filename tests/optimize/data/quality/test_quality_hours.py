"""Clock and calendar of bars: the best reading is named with its option, and a clean one is left alone."""

import random
import time
from contextlib import suppress
from itertools import cycle, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.exchanges import exchange_names
from optimize.data.calendars.hours import TRADING_HOURS
from optimize.data.calendars.zones import parse_clock, wall_time
from optimize.data.quality.calendar_fit import fit_of, infer_calendar, rank_fits
from optimize.data.quality.findings import QualityFinding
from optimize.data.sessions import session_table
from optimize.errors import BadInputError
from tests.optimize.data.quality.conftest import SCHEDULE
from tests.optimize.data.quality.qualities import ohlcv, report_of
from tests.optimize.data.samples import bars_at, stamp
from tests.tiers import mostly_slow

DAILY_YEARS = np.datetime64("2023-01-01"), np.datetime64("2025-01-01")  # daily bars share schedules


def forex(start: str = "2024-01-01", weeks: int = 8, minutes: int = 60) -> pd.DatetimeIndex:
    """Return stamps of a market that is open from Sunday to Friday, 17:00 New York."""
    stamps = pd.date_range(start, periods=weeks * 7 * 1440 // minutes, freq=f"{minutes}min", tz="UTC")
    local = stamps.tz_convert("America/New_York").tz_localize(None) + pd.Timedelta(hours=7)
    return stamps[local.day_of_week < 5]


def exchange(
    name: str, minutes: int = 30, start: str = "2024-02-01", end: str = "2024-05-01"
) -> pd.DatetimeIndex:
    """Return stamps of every bar that an exchange's sessions are cut into from their open."""
    schedule, _ = SCHEDULE(name, np.datetime64("2024-01-01"), np.datetime64("2025-01-01"))
    spans = []
    chosen = schedule[(schedule.index >= start) & (schedule.index <= end)]
    for _, row in chosen.iterrows():
        stops = [row["open"], row["close"]]
        if not pd.isna(row["break_start"]):
            stops[1:1] = [row["break_start"], row["break_end"]]
        for first, last in zip(stops[::2], stops[1::2], strict=True):
            spans.append(pd.date_range(first, last, freq=f"{minutes}min", inclusive="left"))
    return pd.DatetimeIndex(np.concatenate(spans), tz="UTC")


def finding_of(stamps: pd.DatetimeIndex, folder: Path, **settings: str) -> QualityFinding | None:
    found = report_of(ohlcv(stamps, volatility=0.001), folder, **settings).findings
    return next((each for each in found if each.check in ("time_zone", "calendar", "stamp_end")), None)


@pytest.mark.parametrize(
    ("clock", "option"),
    [
        ("America/New_York+7", "data.time_zone=America/New_York+7"),
        ("Etc/GMT+5", "data.time_zone=Etc/GMT+5"),
        ("America/New_York", "data.time_zone=America/New_York"),
        ("Europe/Athens", "data.time_zone=Europe/Athens"),
        ("Europe/London", "data.time_zone=Europe/London"),
        ("Asia/Tokyo", "data.time_zone=UTC+9"),
    ],
)
@pytest.mark.parametrize("minutes", mostly_slow([5, 60], 60))
def test_forex_on_another_clock_is_named(tmp_path: Path, clock: str, option: str, minutes: int) -> None:
    stamps = forex("2024-03-01", weeks=16, minutes=minutes)
    timeframe = "1h" if minutes == 60 else "5m"
    finding = finding_of(wall_time(stamps, parse_clock(clock)), tmp_path, timeframe=timeframe)
    assert finding is not None
    assert (finding.check, finding.severity) == ("time_zone", "refuse")
    assert f"set {option}" in finding.remedy
    assert finding_of(stamps, tmp_path, timeframe=timeframe) is None
    assert (
        finding_of(wall_time(stamps, parse_clock(clock)), tmp_path, timeframe=timeframe, time_zone=clock)
        is None
    )


@pytest.mark.parametrize(
    ("name", "naive"),
    mostly_slow(
        product(["XLON", "XETR", "XBOM", "XTKS", "XHKG", "XSHG", "XASX", "XKRX", "BVMF"], [False, True]),
        *[("XLON", True), ("XTKS", False), ("XBOM", True)],
    ),
)
def test_an_exchange_is_named_with_its_options_and_never_taken_for_another(
    tmp_path: Path, name: str, naive: bool
) -> None:
    stamps = exchange(name)
    zone = TRADING_HOURS[name].zone
    read = stamps.tz_convert(zone).tz_localize(None) if naive else stamps
    finding = finding_of(read, tmp_path, timeframe="30m")
    assert finding is not None
    assert finding.severity == "refuse"
    assert f"session.calendar={name}" in finding.remedy
    assert (f"data.time_zone={zone}" in finding.remedy) == naive
    assert finding_of(stamps, tmp_path, timeframe="30m", session=name) is None


def test_eastern_standard_time_for_a_new_york_summer_is_refused(tmp_path: Path) -> None:
    stamps = exchange("XNYS", start="2024-07-01", end="2024-07-31").tz_convert("America/New_York")
    finding = finding_of(stamps.tz_localize(None), tmp_path, timeframe="30m", time_zone="EST")
    assert finding is not None
    assert finding.remedy.startswith("set data.time_zone=America/New_York")


def test_stamps_at_the_end_of_bars_are_named(tmp_path: Path) -> None:
    stamps = exchange("XNYS") + pd.Timedelta(minutes=30)
    finding = finding_of(stamps, tmp_path, timeframe="30m")
    assert finding is not None
    assert finding.check == "stamp_end"
    assert finding.remedy.endswith("set data.stamp=end")


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XLON", "XNYS"])
def test_more_than_half_outside_is_refused_whatever_was_typed(tmp_path: Path, calendar: str) -> None:
    stamps = pd.date_range("2024-06-01", periods=400, freq="30min", tz="UTC")
    stamps = stamps[np.asarray(stamps.day_of_week) >= 5] if calendar != "24/7" else stamps
    report = report_of(ohlcv(stamps), tmp_path, session=calendar, timeframe="30m")
    assert report.passed == (calendar == "24/7")


def test_a_break_of_metals_and_holidays_ask_for_no_other_calendar(tmp_path: Path) -> None:
    stamps = forex(weeks=30)
    local = stamps.tz_convert("America/New_York")
    metals = stamps[(local.hour != 17) & (local.strftime("%m-%d") != "05-27")]
    assert finding_of(metals, tmp_path) is None
    assert report_of(ohlcv(metals), tmp_path).calendar == "24/5"


def test_new_york_hours_read_as_utc_are_offered_their_own_clock_too(
    tmp_path: Path,
) -> None:
    local = exchange("XNYS", minutes=60).tz_convert("America/New_York").tz_localize(None)
    finding = finding_of(pd.DatetimeIndex(local.floor("1h").unique()), tmp_path)
    assert finding is not None
    assert "session.calendar=XICE (or data.time_zone=America/New_York session.calendar=XNYS" in finding.remedy


@pytest.mark.slow
def test_weekday_daily_bars_are_forex_and_those_of_london_are_london(tmp_path: Path) -> None:
    days = pd.bdate_range("2023-01-02", "2024-12-30")
    fx = days[~days.strftime("%m-%d").isin(["12-25", "01-01"])]
    assert report_of(ohlcv(fx), tmp_path, timeframe="1d").calendar == "24/5"
    schedule, _ = SCHEDULE("XLON", *DAILY_YEARS)
    london = pd.DatetimeIndex(schedule.index)
    london = london[(london >= pd.Timestamp("2023-01-01")) & (london < pd.Timestamp("2024-12-31"))]
    finding = finding_of(london, tmp_path, timeframe="1d")
    assert finding is not None
    assert "session.calendar=XLON" in finding.remedy
    assert finding_of(london, tmp_path, timeframe="1d", session="XLON") is None


def test_a_million_bars_are_judged_in_seconds() -> None:
    minutes = stamp("2020-01-01") + np.arange(1_500_000) * 60_000_000_000
    bars = bars_at(minutes, "1m")
    start = time.process_time()
    assert infer_calendar(bars) == "24/7"
    assert fit_of(bars, "24/7").clean
    assert rank_fits(bars, "UTC", "24/5")[0].calendar == "24/7"
    assert time.process_time() - start < 15


def test_the_usual_hours_are_of_every_exchange() -> None:
    assert set(TRADING_HOURS) == set(exchange_names())


@pytest.mark.slow
def test_the_usual_hours_are_those_of_each_schedule() -> None:
    wrong = {}
    for name, hours in TRADING_HOURS.items():
        try:
            schedule, zone = SCHEDULE(name, np.datetime64("2026-01-01"), np.datetime64("2027-01-01"))
        except BadInputError:  # exchange_calendars cannot build it
            continue
        opens, closes = (pd.DatetimeIndex(schedule[key]).tz_convert(zone) for key in ("open", "close"))
        usual = (
            opens.strftime("%H:%M").value_counts().index[0],
            closes.strftime("%H:%M").value_counts().index[0],
        )
        if (hours.zone, hours.opens, hours.closes) != (zone, *usual):
            wrong[name] = (zone, usual)
    assert wrong == {}


YEARS = list(zip(exchange_names(), cycle(["2026", "1985", "2005"]), strict=False))
DRAWN = random.Random(7).sample(YEARS, 5)


@pytest.mark.parametrize(
    ("name", "year"), mostly_slow(sorted({*YEARS, *((name, "2026") for name in exchange_names())}), *DRAWN)
)
def test_every_exchange_has_this_year_and_an_early_one_or_one_clear_line(name: str, year: str) -> None:
    moment = stamp(f"{year}-12-30")
    with suppress(BadInputError):  # any other error fails the test
        assert 200 < session_table(name, moment, moment).per_year < 270


@pytest.mark.parametrize("name", ["XSHG", "XBOM", "XSES"])
def test_the_last_recorded_year_is_served(name: str) -> None:
    moment = stamp("2026-12-30")
    assert session_table(name, moment, moment).per_year > 200
    with pytest.raises(BadInputError, match=rf"'{name}' is recorded from .* to 2026-12-31"):
        session_table(name, stamp("2027-03-01"), stamp("2027-03-01"))


@pytest.mark.parametrize("name", ["ASEX", "XTAE"])
def test_a_calendar_that_cannot_be_built_is_one_line(name: str) -> None:
    with pytest.raises(
        BadInputError, match=rf"'{name}' cannot be built for 2025-01-01 .* set another session"
    ):
        session_table(name, stamp("2025-06-02"), stamp("2025-06-02"))
