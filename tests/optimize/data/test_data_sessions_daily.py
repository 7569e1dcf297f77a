"""Daily bars stamped at any hour belong to the session of their day and are known at its end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.types import IntArray
from optimize.data.bars import Bars, join_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import market_of, summarise_bars
from optimize.data.sessions import SessionTable, session_table
from optimize.data.timeframes import DAY_NS
from tests.optimize.data.quality.qualities import counts, ohlcv, report_of
from tests.optimize.data.samples import bars_at, stamp

CALENDARS = ("XNYS", "XLON", "XTKS", "XHKG", "XASX", "XNZE", "CMES", "24/5", "24/7")
YEAR = (stamp("2024-01-02"), stamp("2024-12-30"))  # winter and summer, north and south


def sessions(calendar: str) -> tuple[SessionTable, IntArray]:
    """Return a calendar's table and the rows of its sessions of a year."""
    table = session_table(calendar, *YEAR)
    date = table.date.astype("datetime64[ns]").astype(np.int64)
    return table, np.flatnonzero((date >= YEAR[0]) & (date <= YEAR[1]))


def midnights(table: SessionTable, rows: IntArray, zone: str) -> IntArray:
    """Return the midnight of each session's date in a time zone."""
    return pd.DatetimeIndex(table.date[rows]).tz_localize(zone).tz_convert("UTC").as_unit("ns").asi8


def daily(stamps: IntArray, seed: int = 0, symbol: str = "X") -> Bars:
    return bars_at(stamps, "1d", seed, symbol)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("stamped", ["date", "local midnight", "open"])
def test_a_daily_bar_is_of_its_own_session_however_it_is_stamped(calendar: str, stamped: str) -> None:
    table, rows = sessions(calendar)
    stamps = {
        "date": midnights(table, rows, "UTC"),
        "local midnight": midnights(table, rows, table.time_zone),
        "open": table.open_ns[rows],
    }
    np.testing.assert_array_equal(table.index(daily(stamps[stamped])), rows)


def test_a_daily_bar_of_foreign_exchange_may_begin_in_london() -> None:
    table, rows = sessions("24/5")
    np.testing.assert_array_equal(table.index(daily(midnights(table, rows, "Europe/London"))), rows)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_daily_bars_of_every_session_have_no_finding(tmp_path: Path, calendar: str) -> None:
    table, rows = sessions(calendar)
    stamps = pd.DatetimeIndex(midnights(table, rows, "UTC"), tz="UTC")
    frame = ohlcv(stamps, volatility=0.01)
    assert report_of(frame, tmp_path, calendar, timeframe="1d").findings == ()
    summary = summarise_bars(daily(stamps.asi8), SessionSpec(calendar=calendar))
    assert (summary.sessions, summary.empty_sessions, summary.gaps) == (len(rows), 0, 0)
    holed = report_of(frame.drop(index=[20, 21]), tmp_path, calendar, timeframe="1d")
    assert counts(holed) == {"gaps": 1}
    assert "2 bars missing" in holed.findings[0].found


def test_a_bar_on_a_holiday_is_outside_the_sessions_of_tokyo(tmp_path: Path) -> None:
    table, rows = sessions("XTKS")
    constitution_day = stamp("2024-05-03")  # a Friday
    stamps = np.sort(np.append(midnights(table, rows, "UTC"), constitution_day))
    report = report_of(ohlcv(pd.DatetimeIndex(stamps, tz="UTC")), tmp_path, "XTKS", timeframe="1d")
    assert counts(report) == {"outside_session": 1}
    assert report.findings[0].first == "2024-05-03T00:00:00Z"


@pytest.mark.parametrize("calendar", CALENDARS)
def test_a_daily_market_names_its_dates_and_knows_no_bar_before_its_session_closed(calendar: str) -> None:
    table, rows = sessions(calendar)
    bars = daily(midnights(table, rows, "UTC"))
    market = market_of(bars, "1d", FeatureSpec(1, ["returns"]), SessionSpec(calendar=calendar))
    dates = market.timestamp.astype("datetime64[ns]").astype("datetime64[D]")
    np.testing.assert_array_equal(market.session_date[market.session], dates)
    assert (market.bar_end == market.timestamp + DAY_NS).all()
    assert (market.bar_end >= table.close_ns[table.index(bars)][1:]).all()


def test_tokyo_beside_new_york_is_known_no_earlier_than_alone() -> None:
    tokyo, new_york = (
        daily(midnights(*sessions(name), "UTC"), seed, name) for seed, name in enumerate(("XTKS", "XNYS"))
    )
    both = join_bars([tokyo, new_york])
    for asset, alone in enumerate((tokyo, new_york)):
        traded = both.tradable[:, asset]
        known = dict(zip(alone.timestamp.tolist(), alone.bar_end.tolist(), strict=True))
        assert all(
            known[int(start)] <= end
            for start, end in zip(both.timestamp[traded], both.bar_end[traded], strict=True)
        )
    np.testing.assert_array_equal(both.bar_end, both.timestamp + DAY_NS)


@pytest.mark.parametrize(("calendar", "bars_a_session"), [("XTKS", 60), ("XHKG", 66)])
def test_a_lunch_break_is_no_gap(tmp_path: Path, calendar: str, bars_a_session: int) -> None:
    table = session_table(calendar, stamp("2024-05-07"), stamp("2024-06-28"))
    chosen = (table.stretches[:, 0] >= stamp("2024-05-07")) & (table.stretches[:, 0] < stamp("2024-06-28"))
    starts = np.concatenate(
        [np.arange(begin, end, 300 * 10**9) for begin, end in table.stretches[chosen].tolist()]
    )
    assert len(starts) % bars_a_session == 0
    frame = ohlcv(pd.DatetimeIndex(starts, tz="UTC"), volatility=0.001)
    assert report_of(frame, tmp_path, calendar, timeframe="5m").findings == ()
    late = report_of(
        frame.drop(index=[30, 31]), tmp_path, calendar, timeframe="5m"
    )  # after lunch, or just before
    assert counts(late) == {"gaps": 1}
    assert "2 bars missing in 1 of" in late.findings[0].found
