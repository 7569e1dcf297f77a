from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.fields import MARKET
from envs.plain import part_of
from envs.types import IntArray, Market
from optimize.data.bars import Bars, bars_fingerprint, join_bars
from optimize.data.cache import cache_key
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import load_bars, market_of
from optimize.data.sessions import SessionTable, missing_exits, open_time, session_table, sessions_end_flat
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.data.timeframes import MINUTE_NS
from optimize.errors import BadInputError
from optimize.hashing import hash_object
from tests.optimize.data.samples import bars_at, rows_of, stamp, stamps

LIGHT = FeatureSpec(indicators=["returns"])
NEW_YORK = SessionSpec(calendar="XNYS")
HALF_HOURS = ("2023-11-21", "2023-11-22", "2023-11-24")  # the last is a half day


def table_of(bars: Bars, calendar: str = "XNYS", spec: SessionSpec = NEW_YORK) -> SessionTable:
    return session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]), spec)


def exit_of(day: str, calendar: str = "XNYS", spec: SessionSpec = NEW_YORK) -> str:
    table = session_table(calendar, stamp(day), stamp(day), spec)
    (row,) = np.flatnonzero(table.date == np.datetime64(day))
    return str(np.datetime64(int(table.exit_ns[row]), "ns").astype("datetime64[m]"))


def half_hours(days: tuple[str, ...] = HALF_HOURS) -> Bars:
    starts = [stamps(f"{day}T14:30", 7 if day == "2023-11-24" else 13, "30m") for day in days]
    return bars_at(np.concatenate(starts), "30m")


def texts(stamp_ns: IntArray) -> list[str]:
    found: list[str] = stamp_ns.astype("datetime64[ns]").astype("datetime64[m]").astype(str).tolist()
    return found


def opens_from(market: Market) -> list[str]:
    """Return the stamp of the first bar of each run of exit_at_open."""
    first = market.exit_at_open & ~np.concatenate([[False], market.exit_at_open[:-1]])
    return texts(market.timestamp[first])


@pytest.mark.parametrize(
    ("day", "exit_utc"),
    [
        ("2023-03-10", "20:45"),
        ("2023-03-13", "19:45"),
        ("2023-11-24", "17:45"),
        ("2024-07-03", "16:45"),
        ("2024-11-01", "19:45"),
        ("2024-11-04", "20:45"),
        ("2024-12-24", "17:45"),
    ],
)
def test_the_forced_exit_of_new_york_sessions(day: str, exit_utc: str) -> None:
    assert exit_of(day) == f"{day}T{exit_utc}"


@pytest.mark.parametrize(
    ("calendar", "day", "settings", "exit_utc"),
    [
        ("XNYS", "2024-07-02", {"exit_time": "15:30"}, "19:30"),
        ("XNYS", "2024-07-03", {"exit_time": "15:30"}, "16:45"),
        ("XNYS", "2024-07-02", {"exit_time": "16:00", "exit_minutes_before_close": 5}, "19:55"),
        ("XLON", "2024-07-02", {"exit_time": "16:20"}, "15:15"),  # closes at 16:30 British summer time
        ("XLON", "2024-12-24", {"exit_time": "16:20"}, "12:15"),
        ("CMES", "2024-07-02", {}, "20:45"),  # opens on the eve, closes at 16:00 Chicago
        ("24/5", "2024-03-08", {}, "21:45"),
        ("24/5", "2024-03-11", {"exit_time": "09:00"}, "20:45"),
        ("24/7", "2024-03-11", {"exit_time": "09:00"}, "23:45"),
        ("24/7", "2024-03-11", {"exit_minutes_before_close": 60}, "23:00"),
    ],
)
def test_both_limits_of_the_exit_can_be_set(
    calendar: str, day: str, settings: dict[str, str | int], exit_utc: str
) -> None:
    assert exit_of(day, calendar, replace(NEW_YORK, **settings)) == f"{day}T{exit_utc}"  # type: ignore[arg-type]  # settings are passed through


def test_positions_run_overnight_around_the_clock_and_on_daily_bars_unless_told() -> None:
    told = (SessionSpec(flat_overnight=True), SessionSpec(flat_overnight=False))
    assert sessions_end_flat(SessionSpec(), "XNYS", "1h")
    assert not any(
        sessions_end_flat(SessionSpec(), *at) for at in (("XNYS", "1d"), ("24/7", "1m"), ("24/5", "1h"))
    )
    for at in (("XNYS", "1d"), ("XNYS", "1h"), ("24/7", "1m")):
        assert [sessions_end_flat(spec, *at) for spec in told] == [True, False]


def test_a_market_marks_the_bars_at_which_its_sessions_end() -> None:
    market = market_of(half_hours(), "30m", LIGHT, NEW_YORK)
    assert opens_from(market) == []  # the last bars start at 15:30 and 12:30 New York, before the exit
    assert texts(market.timestamp[market.exit_at_close]) == [
        "2023-11-21T20:30",
        "2023-11-22T20:30",
        "2023-11-24T17:30",
    ]
    early = market_of(half_hours(), "30m", LIGHT, replace(NEW_YORK, exit_time="15:30"))
    assert opens_from(early) == ["2023-11-21T20:30", "2023-11-22T20:30"]


def test_prints_after_an_early_close_belong_to_the_exit() -> None:
    days = ("2023-11-22", "2023-11-24", "2023-11-27")
    prints = np.concatenate([stamps(f"{day}T14:30", 32, "15m") for day in days])  # until 22:30Z
    market = market_of(bars_at(prints, "15m"), "15m", LIGHT, NEW_YORK)
    assert opens_from(market) == ["2023-11-22T20:45", "2023-11-24T17:45", "2023-11-27T20:45"]
    assert market.exit_at_open.sum() == 7 + 19 + 7
    assert texts(market.timestamp[market.exit_at_close]) == [f"{day}T22:15" for day in days]


def test_holding_overnight_marks_nothing() -> None:
    for session in (replace(NEW_YORK, flat_overnight=False), SessionSpec(calendar="24/7")):
        market = market_of(half_hours(), "30m", LIGHT, session)
        assert not market.exit_at_open.any()
        assert not market.exit_at_close.any()


def test_days_around_the_clock_end_flat_where_told() -> None:
    bars = bars_at(stamps("2024-01-01", 96 * 3, "15m"), "15m")
    market = market_of(bars, "15m", LIGHT, SessionSpec(calendar="24/7", flat_overnight=True))
    assert opens_from(market) == ["2024-01-01T23:45", "2024-01-02T23:45", "2024-01-03T23:45"]
    assert np.array_equal(market.exit_at_open, market.exit_at_close)


def test_sessions_without_a_bar_to_exit_at_are_named() -> None:
    bars = bars_at(np.concatenate([stamps(f"{day}T14:30", 78, "5m") for day in HALF_HOURS[:2]]), "5m")
    table = table_of(bars)
    assert missing_exits(bars, table).tolist() == []
    holed = rows_of(bars, (bars.timestamp < table.exit_ns[table.index(bars)]) | (np.arange(156) > 78))
    assert missing_exits(holed, table).astype(str).tolist() == ["2023-11-21"]
    silent = replace(bars, tradable=bars.tradable.copy())
    silent.tradable[-3:] = False
    assert missing_exits(silent, table).astype(str).tolist() == ["2023-11-22"]


def test_one_symbol_without_an_exit_is_enough_to_name_the_session() -> None:
    bars = bars_at(stamps("2023-11-21T14:30", 78, "5m"), "5m")
    both = join_bars([bars, replace(bars, symbols=("Y",))])
    assert missing_exits(both, table_of(bars)).tolist() == []
    both.tradable[-3:, 1] = False
    assert missing_exits(both, table_of(bars)).astype(str).tolist() == ["2023-11-21"]


@pytest.mark.parametrize("timeframe", ["12h", "1d"])
def test_a_timeframe_without_two_bars_before_the_exit_is_refused(timeframe: str) -> None:
    with pytest.raises(
        BadInputError,
        match=rf"data.timeframe={timeframe} leaves nothing to trade on XNYS.*session.flat_overnight=false",
    ):
        market_of(half_hours(), timeframe, LIGHT, NEW_YORK)
    overnight = replace(NEW_YORK, flat_overnight=False)
    assert market_of(half_hours(), timeframe, FeatureSpec(1, ["returns"]), overnight).n_bars == 2


@pytest.mark.parametrize(("timeframe", "bars"), [("4h", 2), ("6h", 2), ("2h", 4), ("30m", 13)])
def test_coarse_bars_that_leave_something_to_trade_are_allowed(timeframe: str, bars: int) -> None:
    days = tuple(str(np.datetime64("2023-11-13") + day) for day in range(4))
    market = market_of(half_hours(days), timeframe, FeatureSpec(1, ["range"]), NEW_YORK)
    assert market.exit_at_close.sum() == 4
    assert market.n_bars == 4 * bars


def test_an_exit_before_the_open_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"no session has 2 bars that start before its forced exit"):
        market_of(half_hours(), "30m", LIGHT, replace(NEW_YORK, exit_time="09:45"))


@pytest.mark.parametrize("exit_time", ["945", "15.45", "24:00", "15:60", "15:45:00", "3:45", ""])
def test_an_exit_time_must_be_a_time_of_day(exit_time: str) -> None:
    with pytest.raises(BadInputError, match=r"session.exit_time=.*HH:MM"):
        SessionSpec(exit_time=exit_time)


@pytest.mark.parametrize("minutes", [-1, 721])
def test_minutes_before_the_close_are_limited(minutes: int) -> None:
    with pytest.raises(BadInputError, match=r"session.exit_minutes_before_close=.*0 to 720"):
        SessionSpec(exit_minutes_before_close=minutes)


def fingerprint(**settings: str | int | bool) -> str:
    return market_of(half_hours(), "30m", LIGHT, SessionSpec(**settings)).fingerprint  # type: ignore[arg-type]  # settings are passed through


def test_the_fingerprint_follows_the_forced_exit_and_only_where_there_is_one() -> None:
    flat = fingerprint(calendar="XNYS")
    assert flat == fingerprint(calendar="XNYS", flat_overnight=True) == fingerprint(calendar="auto")
    exits = [
        fingerprint(calendar="XNYS", flat_overnight=False),
        fingerprint(calendar="XNYS", exit_time="15:00"),
        fingerprint(calendar="XNYS", exit_minutes_before_close=30),
    ]
    assert len({flat, *exits}) == 4
    overnight = fingerprint(calendar="XNYS", flat_overnight=False, exit_time="15:00")
    assert overnight == exits[0]
    around_the_clock = fingerprint(calendar="24/7", flat_overnight=True)
    assert around_the_clock == fingerprint(calendar="24/7", flat_overnight=True, exit_time="15:00")
    assert around_the_clock != fingerprint(calendar="24/7")


def test_the_fingerprint_of_a_market_without_forced_exits_is_what_it_was() -> None:
    bars = half_hours()
    was = hash_object([bars_fingerprint(bars), "30m", ["returns"], "XNYS"])
    assert fingerprint(calendar="XNYS", flat_overnight=False) == was


def test_the_cache_keeps_markets_with_other_exits_apart() -> None:
    data = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=600))
    specs = [SessionSpec(), SessionSpec(flat_overnight=True), SessionSpec(exit_time="15:00")]
    assert len({cache_key(data, LIGHT, spec) for spec in specs}) == 3


def test_open_time_stands_still_between_sessions() -> None:
    table = table_of(half_hours())
    close, reopen = stamp("2023-11-22T21:00"), stamp("2023-11-24T14:30")
    at = np.array([close - MINUTE_NS, close, close + MINUTE_NS, reopen, reopen + MINUTE_NS])
    assert np.diff(open_time(table, at)).tolist() == [MINUTE_NS, 0, 0, MINUTE_NS]


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("spy_1m_yahoo_201912", ["2020-01-10"]),
        ("tqqq_1m_yahoo_201912", ["2019-12-24"]),
        ("goog_1m_lean_20151223_28_earlyclose", []),
    ],
)
def test_real_sessions_without_an_exit_bar_are_named(
    market_data: Path, file: str, missing: list[str]
) -> None:
    bars = load_bars(DataSpec(provider="file", path=str(market_data / f"{file}.parquet"), drop_nan=True))
    assert missing_exits(bars, table_of(bars)).astype(str).tolist() == missing


@pytest.mark.market_data
def test_hours_of_a_stock_have_no_exit_bar_on_whole_days(market_data: Path) -> None:
    bars = load_bars(DataSpec(provider="file", path=str(market_data / "spy_1h_lean_1998_2021.parquet")))
    table = table_of(bars)
    row = table.index(bars)
    half_days = np.unique(row[(bars.timestamp >= table.exit_ns[row])])
    assert (table.close_ns[half_days] - table.open_ns[half_days] < 4 * 60 * MINUTE_NS).all()
    assert len(missing_exits(bars, table)) == len(np.unique(row)) - len(half_days) > 5800


OTHER_VALUES: dict[str, Any] = {
    "indicators": ["returns", "zigzag", "rsi"], "higher_timeframes": ["1h"], "zigzag_pct": [1.5],
    "calendar": "24/7", "flat_overnight": False, "exit_time": "15:00", "exit_minutes_before_close": 30,
    "outside": "drop",
}  # fmt: skip


def test_every_key_of_features_and_sessions_that_decides_the_market_changes_its_fingerprint() -> None:
    feature, session = FeatureSpec(indicators=["returns", "zigzag"]), SessionSpec(calendar="XNYS")
    keys = part_of(feature, MARKET) | part_of(session, MARKET)
    assert OTHER_VALUES.keys() == keys.keys() - {"parameters"}, "name another value of a new key here"
    days = map(str, session_table("XNYS", stamp("2022-11-07"), stamp("2023-03-10"), session).date)
    hours = [stamps(f"{day}T14:30", 16, "30m") for day in days]  # the last bars are outside of the session
    bars = bars_at(np.concatenate(hours), "30m")
    prints = [market_of(bars, "30m", feature, session).fingerprint]
    for key in sorted(OTHER_VALUES):
        changed = {key: OTHER_VALUES[key]}
        features = replace(feature, **changed) if hasattr(feature, key) else feature
        sessions = replace(session, **changed) if hasattr(session, key) else session
        prints.append(market_of(bars, "30m", features, sessions).fingerprint)
    assert len(set(prints)) == len(prints)
