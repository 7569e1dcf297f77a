"""Bars of one market that were taken for another: the right one is named, or that none of them fits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.hours import TRADING_HOURS
from optimize.data.sessions import session_table
from optimize.errors import BadInputError
from tests.optimize.data.quality.qualities import ohlcv, report_of
from tests.optimize.data.quality.test_quality_hours import exchange, finding_of
from tests.optimize.data.samples import stamp
from tests.tiers import mostly_slow

WEEK = range(5)
SUNDAY_TO_THURSDAY = (6, 0, 1, 2, 3)


def daily_hours(
    zone: str, spans: list[tuple[str, str]], weekdays: object = WEEK, minutes: int = 15
) -> pd.DatetimeIndex:
    """Return stamps of bars in spans of local time, HH:MM, on some weekdays of four months."""
    days = pd.date_range("2024-02-01", "2024-05-31")
    days = days[np.isin(days.day_of_week, list(weekdays))]  # type: ignore[call-overload]  # of ints
    parts = [
        pd.date_range(f"{day.date()} {first}", f"{day.date()} {last}", freq=f"{minutes}min", inclusive="left")
        for day in days
        for first, last in spans
    ]
    local = pd.DatetimeIndex(np.concatenate(parts)).tz_localize(zone, nonexistent="NaT", ambiguous="NaT")
    return local.dropna().tz_convert("UTC")


@pytest.mark.parametrize("name", mostly_slow(["XTKS", "XHKG", "XASX", "BVMF", "XJSE"], "XTKS"))
def test_stamps_at_the_end_of_another_exchange_s_bars_are_named(tmp_path: Path, name: str) -> None:
    finding = finding_of(exchange(name) + pd.Timedelta(minutes=30), tmp_path, timeframe="30m")
    assert finding is not None
    assert finding.check == "stamp_end"
    assert f"set data.stamp=end session.calendar={name}" in finding.remedy


@pytest.mark.parametrize("name", mostly_slow(["XHKG", "XETR", "BVMF"], "XHKG"))
def test_local_stamps_said_to_be_of_new_york_are_named(tmp_path: Path, name: str) -> None:
    zone = TRADING_HOURS[name].zone
    local = exchange(name).tz_convert(zone).tz_localize(None)
    finding = finding_of(local, tmp_path, timeframe="30m", time_zone="America/New_York")
    assert finding is not None
    assert finding.check == "time_zone"
    assert f"set data.time_zone={zone} session.calendar={name}" in finding.remedy


@pytest.mark.parametrize(
    ("zone", "spans", "weekdays"),
    [
        ("Asia/Kathmandu", [("11:00", "15:00")], SUNDAY_TO_THURSDAY),
        ("Asia/Shanghai", [("09:00", "11:30"), ("13:30", "15:00"), ("21:00", "23:00")], WEEK),
        ("America/New_York", [("08:15", "13:30")], WEEK),
    ],
    ids=["Kathmandu", "futures of Shanghai with their night", "a pit of New York"],
)
def test_hours_of_no_calendar_are_refused_without_a_clock_that_nobody_named(
    tmp_path: Path, zone: str, spans: list[tuple[str, str]], weekdays: object
) -> None:
    finding = finding_of(daily_hours(zone, spans, weekdays), tmp_path, timeframe="15m")
    assert finding is not None
    assert (finding.check, finding.severity) == ("calendar", "refuse")
    assert "keep the hours of no calendar" in finding.found
    assert "data.time_zone=" not in finding.remedy


def test_futures_in_chicago_s_time_are_read_on_its_clock(tmp_path: Path) -> None:
    stamps = daily_hours("America/Chicago", [("00:00", "16:00"), ("17:00", "23:59")], minutes=30)
    evening = daily_hours("America/Chicago", [("17:00", "23:59")], [6], minutes=30)
    friday = stamps.tz_convert("America/Chicago")
    stamps = stamps[~((friday.day_of_week == 4) & (friday.hour >= 17))].union(evening)
    local = stamps.tz_convert("America/Chicago").tz_localize(None)
    finding = finding_of(local, tmp_path, timeframe="30m")
    assert finding is not None
    assert finding.remedy.startswith("set data.time_zone=America/Chicago")
    assert finding_of(local, tmp_path, timeframe="30m", time_zone="America/Chicago") is None


@pytest.mark.slow
def test_a_calendar_that_cannot_be_built_is_not_advised(tmp_path: Path) -> None:
    try:
        session_table("XTAE", stamp("2024-02-01"), stamp("2024-05-01"))
    except BadInputError:
        pass
    else:
        pytest.skip("the installed packages build XTAE")
    stamps = daily_hours("Asia/Jerusalem", [("10:00", "17:00")], SUNDAY_TO_THURSDAY)
    finding = finding_of(stamps, tmp_path, timeframe="15m")
    assert finding is not None
    assert "XTAE cannot be built" in finding.remedy
    assert "set session.calendar=24/7" in finding.remedy
    assert finding_of(stamps, tmp_path, timeframe="15m", session="24/7") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["XASX", "BVMF", "XJSE"])
def test_daily_bars_of_a_smaller_exchange_are_its_own(tmp_path: Path, name: str) -> None:
    table = session_table(name, stamp("2023-01-10"), stamp("2024-06-20"))
    inside = (table.date >= np.datetime64("2023-01-10")) & (table.date <= np.datetime64("2024-06-20"))
    dates = pd.DatetimeIndex(table.date[inside]).tz_localize("UTC")
    finding = finding_of(dates, tmp_path, timeframe="1d")
    assert finding is not None
    assert f"set session.calendar={name}" in finding.remedy


def test_daily_bars_outside_are_named_by_the_day_that_they_are_of(tmp_path: Path) -> None:
    """Midnight UTC of a Saturday is a Friday in New York, and no Friday is outside."""
    days = pd.date_range("2020-01-01", periods=60, freq="D", tz="UTC")
    kept = days[np.isin(days.day_of_week, [1, 2, 3, 4, 5])]
    report = report_of(ohlcv(kept), tmp_path, timeframe="1d", session="24/5")
    (outside,) = (each for each in report.findings if each.check == "outside_session")
    assert "on Saturdays" in outside.found
