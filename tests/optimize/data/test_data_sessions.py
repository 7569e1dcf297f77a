from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.types import IntArray
from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import load_bars
from optimize.data.quality.calendar_fit import infer_calendar, resolve_calendar
from optimize.data.sessions import session_table
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, MINUTE_NS
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, stamp, stamps


def ends(*texts: str) -> IntArray:
    return np.array([stamp(text) for text in texts], dtype=np.int64)


def sessions_of(bar_end: IntArray, calendar: str) -> tuple[IntArray, NDArray[np.datetime64], float]:
    """Return ordinals (T,) of minutes that end so, session labels (S,) and sessions per year."""
    table = session_table(calendar, int(bar_end[0]), int(bar_end[-1]))
    row = np.searchsorted(table.date, table.day_of(bar_end - MINUTE_NS, bar_end, "1m"))
    return row - row[0], table.date[row[0] : row[-1] + 1], table.per_year


def labels(bar_end: IntArray, calendar: str) -> list[str]:
    ordinal, date, _ = sessions_of(bar_end, calendar)
    return [str(date[row]) for row in ordinal]


def test_a_crypto_day_is_a_utc_day_by_bar_end() -> None:
    bar_end = ends("2024-02-28T23:00", "2024-02-29T00:00", "2024-02-29T01:00", "2024-03-02T00:00")
    assert labels(bar_end, "24/7") == ["2024-02-28", "2024-02-28", "2024-02-29", "2024-03-01"]
    assert sessions_of(bar_end, "24/7")[2] == 365.25


@pytest.mark.parametrize(
    ("close_utc", "day"),
    [
        ("2023-03-10T22:00", "2023-03-10"),  # a Friday of standard time
        ("2023-03-13T21:00", "2023-03-13"),  # the Monday after the change
        ("2023-11-03T21:00", "2023-11-03"),
        ("2023-11-06T22:00", "2023-11-06"),
    ],
)
def test_the_fx_day_rolls_at_17_new_york_through_clock_changes(close_utc: str, day: str) -> None:
    close = stamp(close_utc)
    assert labels(np.array([close - 1, close]), "24/5") == [day, day]
    after = np.datetime64(day) + (3 if np.datetime64(day).astype(object).weekday() == 4 else 1)
    assert labels(np.array([close, close + 1]), "24/5") == [day, str(after)]


def test_fx_bars_of_the_weekend_belong_to_monday() -> None:
    bar_end = ends("2024-06-07T21:00", "2024-06-08T12:00", "2024-06-09T22:00", "2024-06-10T21:00")
    assert labels(bar_end, "24/5") == ["2024-06-07", "2024-06-10", "2024-06-10", "2024-06-10"]


def test_new_york_sessions_know_holidays_and_prints_after_an_early_close() -> None:
    bar_end = ends("2015-12-23T21:00", "2015-12-24T18:00", "2015-12-24T21:11", "2015-12-28T14:31")
    assert labels(bar_end, "XNYS") == ["2015-12-23", "2015-12-24", "2015-12-24", "2015-12-28"]


@pytest.mark.parametrize(
    ("day", "close_utc"),
    [
        ("2023-03-10", "21:00"),
        ("2023-03-13", "20:00"),
        ("2023-11-24", "18:00"),
        ("2024-07-03", "17:00"),
        ("2024-12-24", "18:00"),
    ],
)
def test_the_table_knows_the_close_of_every_new_york_session(day: str, close_utc: str) -> None:
    table = session_table("XNYS", stamp("2023-01-05"), stamp("2024-12-30"))
    row = int(np.flatnonzero(table.date == np.datetime64(day))[0])
    assert table.close_ns[row] == stamp(f"{day}T{close_utc}")


def test_a_day_of_mourning_is_no_session() -> None:
    table = session_table("XNYS", stamp("2025-01-02"), stamp("2025-01-20"))
    assert np.datetime64("2025-01-09") not in table.date


def test_sessions_without_bars_are_listed() -> None:
    ordinal, date, _ = sessions_of(ends("2024-01-02T21:00", "2024-01-05T21:00"), "XNYS")
    assert ordinal.tolist() == [0, 3]
    assert date.astype(str).tolist() == ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]


@pytest.mark.parametrize(
    ("calendar", "first", "last", "per_year"),
    [
        ("XNYS", "2023-06-01", "2023-06-30", 250.0),
        ("XNYS", "2023-06-01", "2024-06-30", 251.0),
        ("XNYS", "1998-01-05", "1998-02-05", 252.0),
        ("24/5", "2017-01-02", "2017-12-29", 260.0),
        ("CMES", "2023-06-01", "2023-06-30", 257.0),
    ],
)
def test_sessions_per_year_count_whole_calendar_years(
    calendar: str, first: str, last: str, per_year: float
) -> None:
    assert sessions_of(ends(first, last), calendar)[2] == pytest.approx(per_year, abs=0.01)


def test_a_futures_session_opens_on_the_eve() -> None:
    bar_end = ends("2024-06-05T21:00", "2024-06-05T22:01", "2024-06-06T21:00")
    assert labels(bar_end, "CMES") == ["2024-06-05", "2024-06-06", "2024-06-06"]


@pytest.mark.parametrize("name", ["NYSEE", "24/6"])
def test_an_unknown_calendar_is_refused_with_examples(name: str) -> None:
    with pytest.raises(
        BadInputError, match=rf"session.calendar='{name}' is unknown: use auto, 24/7, 24/5 .*XNYS"
    ):
        sessions_of(ends("2024-01-02", "2024-01-05"), name)


def test_a_calendar_that_begins_after_the_data_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"session.calendar='XKRX' is recorded from 1956-01-01"):
        sessions_of(ends("1901-01-02", "1901-01-05"), "XKRX")


def week(keep: str) -> IntArray:
    hours = stamps("2024-06-03", 24 * 28, "1h")
    weekday, hour = (hours // DAY_NS + 3) % 7, hours // 3_600_000_000_000 % 24
    fx = (weekday < 4) | ((weekday == 4) & (hour < 21)) | ((weekday == 6) & (hour >= 21))
    kept = {"all": hour >= 0, "fx": fx, "day": (weekday < 5) & (hour >= 13) & (hour < 20)}
    kept["extended"] = (weekday < 5) & (hour >= 8) & (hour < 24)
    chosen: IntArray = hours[kept[keep]]
    return chosen


@pytest.mark.parametrize(
    ("keep", "calendar"), [("all", "24/7"), ("fx", "24/5"), ("day", "XNYS"), ("extended", "XNYS")]
)
def test_the_calendar_is_read_off_the_hours_that_trade(keep: str, calendar: str) -> None:
    bars = bars_at(week(keep), "1h")
    assert infer_calendar(bars) == calendar
    assert resolve_calendar(SessionSpec(), bars) == calendar
    assert resolve_calendar(SessionSpec(calendar="XLON"), bars) == "XLON"


def test_daily_bars_are_told_apart_by_their_holidays() -> None:
    days = stamps("2024-01-01", 70, "1d")
    assert infer_calendar(bars_at(days, "1d")) == "24/7"
    weekdays = days[(days // DAY_NS + 3) % 7 < 5]
    assert infer_calendar(bars_at(weekdays, "1d")) == "24/5"  # with a bar on three holidays of New York
    holidays = [stamp(day) for day in ("2024-01-01", "2024-01-15", "2024-02-19")]
    assert infer_calendar(bars_at(weekdays[~np.isin(weekdays, holidays)], "1d")) == "XNYS"
    assert infer_calendar(bars_at(weekdays[2:9], "1d")) == "XNYS"  # without a holiday both fit


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("file", "calendar", "sessions"),
    [
        ("btcusdt_1h_binance_2017_2024", "24/7", 2440),
        ("eurusd_1h_oanda_mid_2007_2018", "24/5", 3131),
        ("spy_1h_lean_1998_2021", "XNYS", 5849),
        ("spy_1m_yahoo_201912", "XNYS", 23),
        ("goog_1m_lean_20151223_28_earlyclose", "XNYS", 3),
        ("daily_aapl_bokeh_2000_2013", "XNYS", 3270),
    ],
)
def test_real_markets_are_told_apart(market_data: Path, file: str, calendar: str, sessions: int) -> None:
    bars = load_bars(DataSpec(provider="file", path=str(market_data / f"{file}.parquet"), drop_nan=True))
    assert infer_calendar(bars) == calendar
    row = session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1])).index(bars)
    assert row[-1] - row[0] + 1 == sessions
