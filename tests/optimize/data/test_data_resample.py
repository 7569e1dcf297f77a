from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.types import IntArray
from optimize.data.bars import Bars, join_bars
from optimize.data.market import load_bars
from optimize.data.resample import resample
from optimize.data.sessions import session_table
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, rows_of, stamp, stamps

ARRAYS = ("timestamp", "bar_end", "open", "high", "low", "close", "volume", "spread", "tradable")


def coarse(bars: Bars, timeframe: str, calendar: str) -> Bars:
    table = session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]))
    return resample(bars, timeframe, table)


def text(values: IntArray) -> list[str]:
    return [str(np.datetime64(int(value), "ns"))[:16] for value in values]


def new_york_minutes(*days: tuple[str, str, str]) -> IntArray:
    """Return one start a minute of each (day, open, close) in UTC."""
    return np.concatenate(
        [
            np.arange(stamp(f"{day}T{opened}"), stamp(f"{day}T{closed}"), 60 * 10**9)
            for day, opened, closed in days
        ]
    )


SOURCES = {
    "24/7": bars_at(np.delete(stamps("2024-01-05T03:20", 3000, "5m"), slice(100, 140)), "5m"),
    "24/5": bars_at(
        np.concatenate([stamps("2024-03-07T00:00", 46, "1h"), stamps("2024-03-10T21:00", 96, "1h")]), "1h"
    ),
    "XNYS": bars_at(
        new_york_minutes(
            ("2024-07-02", "13:30", "20:00"),
            ("2024-07-03", "13:30", "17:00"),
            ("2024-07-05", "13:30", "20:00"),
        ),
        "1m",
    ),
}
CASES = [(name, timeframe) for name in SOURCES for timeframe in ("2h", "4h", "12h", "1d")]


def test_prices_merge_as_first_max_min_last_sum() -> None:
    bars = bars_at(stamps("2024-01-01", 24, "5m"), "5m")
    hour = coarse(bars, "1h", "24/7")
    assert text(hour.timestamp) == ["2024-01-01T00:00", "2024-01-01T01:00"]
    for row, part in enumerate((slice(0, 12), slice(12, 24))):
        assert hour.open[row] == bars.open[part][0]
        assert hour.high[row] == bars.high[part].max()
        assert hour.low[row] == bars.low[part].min()
        assert hour.close[row] == bars.close[part][-1]
        assert hour.volume[row] == pytest.approx(bars.volume[part].sum())


@pytest.mark.parametrize(("calendar", "timeframe"), CASES)
def test_a_bar_is_known_between_its_last_part_and_the_next_bar(calendar: str, timeframe: str) -> None:
    bars = SOURCES[calendar]
    merged = coarse(bars, timeframe, calendar)
    assert (merged.timestamp < merged.bar_end).all()
    assert (merged.bar_end[:-1] <= merged.timestamp[1:]).all()
    assert merged.bar_end[-1] <= bars.bar_end[-1]
    for row in range(merged.n_bars):  # the close is that of the last part known at the end, and no later one
        part = np.searchsorted(bars.bar_end, merged.bar_end[row], side="right") - 1
        assert merged.close[row] == bars.close[part]


@pytest.mark.parametrize(("calendar", "timeframe"), CASES)
def test_what_comes_later_changes_no_bar_known_before(calendar: str, timeframe: str) -> None:
    rng = np.random.default_rng(0)
    bars = SOURCES[calendar]
    bars = replace(bars, spread=rng.random(bars.spread.shape))
    whole = coarse(bars, timeframe, calendar)
    for cut in rng.integers(bars.n_bars // 4, bars.n_bars, 12):
        later = np.arange(bars.n_bars)[:, None] >= cut
        shaken = {
            name: np.where(later, 3.0 * getattr(bars, name), getattr(bars, name)) for name in ARRAYS[2:8]
        }
        known = whole.bar_end <= bars.bar_end[cut - 1]
        for other in (replace(bars, **shaken), rows_of(bars, slice(0, int(cut)))):
            if not known.any():
                continue
            merged = coarse(other, timeframe, calendar)
            for name in ARRAYS:
                np.testing.assert_array_equal(
                    getattr(merged, name)[: known.sum()], getattr(whole, name)[known]
                )


def test_an_incomplete_last_bar_is_dropped() -> None:
    bars = bars_at(stamps("2024-01-01", 35, "5m"), "5m")
    assert coarse(bars, "1h", "24/7").n_bars == 2
    assert coarse(rows_of(bars, slice(0, 24)), "1h", "24/7").n_bars == 2
    with pytest.raises(
        BadInputError, match=r"data.timeframe=1d leaves no complete bar of 35 at 5m: use more data"
    ):
        coarse(bars, "1d", "24/7")


def test_equity_bars_start_at_the_open_and_end_at_the_close() -> None:
    hours = coarse(SOURCES["XNYS"], "1h", "XNYS")
    assert text(hours.timestamp)[:8] == [f"2024-07-02T{hour}:30" for hour in range(13, 20)] + [
        "2024-07-03T13:30"
    ]
    assert text(hours.bar_end)[6] == "2024-07-02T20:00"
    assert text(hours.bar_end)[10] == "2024-07-03T17:00"  # a half day
    days = coarse(SOURCES["XNYS"], "1d", "XNYS")
    assert text(days.timestamp) == ["2024-07-02T13:30", "2024-07-03T13:30", "2024-07-05T13:30"]
    assert text(days.bar_end) == ["2024-07-02T20:00", "2024-07-03T17:00", "2024-07-05T20:00"]


def test_a_missing_first_minute_does_not_move_the_anchor() -> None:
    late = rows_of(SOURCES["XNYS"], slice(7, None))
    assert text(coarse(late, "30m", "XNYS").timestamp)[:2] == ["2024-07-02T13:30", "2024-07-02T14:00"]


@pytest.mark.parametrize(("minute", "starts"), [("00", ["14:00", "16:00"]), ("30", ["14:30", "16:30"])])
def test_hourly_equity_files_keep_their_own_grid(minute: str, starts: list[str]) -> None:
    timestamp = np.concatenate([stamps(f"2024-01-{day:02d}T14:{minute}", 7, "1h") for day in (2, 3, 4)])
    merged = coarse(bars_at(timestamp, "1h"), "2h", "XNYS")
    assert [time[11:] for time in text(merged.timestamp)[:2]] == starts
    assert (merged.bar_end[:-1] <= merged.timestamp[1:]).all()


def test_prints_after_an_early_close_are_no_part_of_the_day_that_is_known_by_then() -> None:
    minutes = new_york_minutes(("2015-12-23", "14:30", "21:00"), ("2015-12-24", "14:30", "21:11"))
    source = bars_at(minutes, "1m")
    days = coarse(source, "1d", "XNYS")
    assert text(days.bar_end) == ["2015-12-23T21:00", "2015-12-24T18:00"]
    assert days.close[1, 0] == source.close[source.bar_end == days.bar_end[1], 0]


def test_prints_after_an_early_close_make_bars_of_their_own() -> None:
    minutes = new_york_minutes(("2015-12-24", "14:30", "21:11"))
    hours = coarse(bars_at(minutes, "1m"), "1h", "XNYS")
    assert text(hours.timestamp)[3:6] == ["2015-12-24T17:30", "2015-12-24T18:00", "2015-12-24T18:30"]
    assert text(hours.bar_end)[3:5] == ["2015-12-24T18:00", "2015-12-24T18:30"]


def test_the_last_fx_bar_of_the_week_ends_with_the_week() -> None:
    merged = coarse(SOURCES["24/5"], "4h", "24/5")
    ends = text(merged.bar_end)
    assert "2024-03-08T22:00" in ends  # 17:00 New York in winter
    assert "2024-03-08T02:00" in ends


@pytest.mark.parametrize("timeframe", ["2h", "4h", "6h", "12h"])
def test_fx_bars_are_anchored_to_the_roll_so_that_sessions_hold_the_same_hours(timeframe: str) -> None:
    merged = coarse(SOURCES["24/5"], timeframe, "24/5")
    opens = {time for time in text(merged.timestamp) if time[11:] in ("21:00", "22:00")}
    assert {"2024-03-07T22:00", "2024-03-10T21:00", "2024-03-11T21:00"} <= opens  # 17:00 New York, DST apart


def test_missing_hours_at_the_roll_of_a_weekday_do_not_end_a_bar_early() -> None:
    bars = SOURCES["24/5"]
    roll = (bars.timestamp >= stamp("2024-03-07T21:00")) & (bars.timestamp < stamp("2024-03-08T00:00"))
    merged = coarse(rows_of(bars, ~roll), "4h", "24/5")
    assert text(merged.bar_end)[5] == "2024-03-07T22:00"


def test_an_fx_day_runs_from_17_to_17_new_york_over_the_clock_change() -> None:
    days = coarse(SOURCES["24/5"], "1d", "24/5")
    assert text(days.timestamp)[1:4] == ["2024-03-07T22:00", "2024-03-10T21:00", "2024-03-11T21:00"]
    assert text(days.bar_end)[:3] == ["2024-03-07T22:00", "2024-03-08T22:00", "2024-03-11T21:00"]


def test_a_carried_price_of_an_asset_that_did_not_trade_is_no_high() -> None:
    first = bars_at(stamps("2024-01-01", 24, "5m"), "5m", symbol="A")
    sparse = bars_at(stamps("2024-01-01", 24, "5m"), "5m", seed=1, symbol="B")
    sparse = rows_of(sparse, np.isin(np.arange(24), [0, 14]))
    for name in ("open", "high", "low", "close"):
        getattr(sparse, name)[1] *= 0.5  # the carried close lies above the later trades of the hour
    hour = coarse(join_bars([first, sparse]), "1h", "24/7")
    assert hour.tradable.all()
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(hour, name)[:, 1], getattr(sparse, name)[:, 0])


def test_an_hour_without_any_trade_carries_the_close_and_is_untradable() -> None:
    first = bars_at(stamps("2024-01-01", 36, "5m"), "5m", symbol="A")
    sparse = rows_of(bars_at(stamps("2024-01-01", 36, "5m"), "5m", symbol="B"), np.arange(36) % 30 == 0)
    hour = coarse(join_bars([first, sparse]), "1h", "24/7")
    assert hour.tradable[:, 1].tolist() == [True, False, True]
    assert hour.open[1, 1] == hour.high[1, 1] == hour.low[1, 1] == hour.close[1, 1] == sparse.close[0, 0]


def test_the_spread_of_a_bar_is_the_one_at_its_open() -> None:
    first, second = (bars_at(stamps("2024-01-01", 36, "5m"), "5m", symbol=name) for name in "AB")
    first = replace(first, spread=np.arange(36.0)[:, None])
    second = replace(second, spread=100.0 + np.arange(36.0)[:, None])
    second = rows_of(second, np.isin(np.arange(36), [0, 5, 27]))  # its second hour has no trade
    hour = coarse(join_bars([first, second]), "1h", "24/7")
    assert hour.spread[:, 0].tolist() == [0.0, 12.0, 24.0]
    assert hour.spread[:, 1].tolist() == [100.0, 105.0, 127.0]


def test_the_same_timeframe_changes_nothing_and_a_finer_one_is_refused() -> None:
    bars = bars_at(stamps("2024-01-01", 50, "1h"), "1h")
    assert coarse(bars, "1h", "24/7") is bars
    with pytest.raises(
        BadInputError,
        match=r"data.timeframe=15m is finer than the source's 1h: set data.timeframe=1h, or coarser",
    ):
        coarse(bars, "15m", "24/7")
    with pytest.raises(BadInputError, match=r"data.timeframe=6h is not a multiple of the source's 4h"):
        coarse(bars_at(stamps("2024-01-01", 50, "4h"), "4h"), "6h", "24/7")


@pytest.mark.market_data
@pytest.mark.parametrize("symbol", ["btcusdt", "ethusdt", "solusdt"])
def test_five_minute_bars_make_the_exchange_s_own_hours(market_data: Path, symbol: str) -> None:
    folder = market_data / "crypto_multi"
    fine, hours = (
        load_bars(DataSpec(provider="file", path=str(folder / f"{symbol}_{tf}_binance_2024.parquet")))
        for tf in ("5m", "1h")
    )
    merged = coarse(fine, "1h", "24/7")
    assert merged.n_bars >= hours.n_bars - 1
    count = min(merged.n_bars, hours.n_bars)
    for name in ("timestamp", "bar_end", "open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(merged, name)[:count], getattr(hours, name)[:count])
    np.testing.assert_allclose(merged.volume[:count], hours.volume[:count], rtol=1e-9)
