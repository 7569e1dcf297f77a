"""The report finds each known defect of real files, and nothing in the clean ones."""

from pathlib import Path

import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import load_bars
from optimize.data.quality.report import QualityReport, inspect_bars
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

pytestmark = pytest.mark.market_data

# file: {check: (count, words of the finding)}; a file without any is clean
REAL: dict[str, dict[str, tuple[int, str]]] = {
    "btcusd_1h_coinbase_2017_2019": {
        "seen_open": (20_111, "the open is the close before on 99.95 % of the bars"),
        "zero_volume": (28, "28 bars (0.139 %) without volume"),
    },
    "btcusdt_1h_binance_2017_2024": {
        "gaps": (28, "128 bars missing in 29 of 2,440 sessions: the longest 34 h after 2018-02-08T00:00:00Z"),
        "zero_volume": (4, "4 bars"),
    },
    "crypto_multi/btcusdt_1h_binance_2024": {},
    "crypto_multi/btcusdt_5m_binance_2024": {},
    "crypto_multi/ethusdt_1h_binance_2024": {},
    "crypto_multi/ethusdt_5m_binance_2024": {},
    "crypto_multi/solusdt_1h_binance_2024": {},
    "crypto_multi/solusdt_5m_binance_2024": {},
    "daily_aapl_bokeh_2000_2013": {
        "split": (2, "2:1 at 2000-06-21, 101.25 -> 50.5, 2:1 at 2005-02-28, 88.99 -> 44.68"),
    },
    "daily_goog_bokeh_2000_2013": {},
    "daily_ibm_bokeh_2000_2013": {},
    "daily_msft_bokeh_2000_2013": {"split": (1, "2:1 at 2003-02-18, 48.3 -> 24.62")},
    "daily_qqq_lean": {
        "split": (1, "2:1 at 2000-03-20, 221.73 -> 111"),
        "hole": (1, "2,304 days after 2004-11-30"),
    },
    "eurusd_1h_gymanytrading_2017": {"gaps": (2, "15 bars missing in 1 of 260 sessions")},
    "eurusd_1h_oanda_mid_2007_2018": {
        "seen_open": (74_439, "the open is the close before on 100 % of the bars"),
        "gaps": (28, "682 bars missing in 48 of 3,131 sessions"),
        "zero_volume": (74_439, "74,439 bars (100 %)"),
    },
    "goog_1m_lean_20151223_28_earlyclose": {
        "gaps": (8, "8 bars missing in 1 of 3 sessions"),
        "outside_session": (109, "14 of them after an early close"),
    },
    "googl_1d_gymanytrading_2009_2018": {},
    "spy_1h_lean_1998_2021": {
        "gaps": (1, "2 bars missing in 1 of 5,849 sessions: 20 h after 2002-09-10"),
        "outside_session": (47, "all of them after an early close"),
    },
    "spy_1m_yahoo_201912": {
        "nan": (1, "(5 in all)"),
        "gaps": (40, "342 bars missing in 19 of 23 sessions"),
        "outside_session": (1, "after an early close"),
        "missing_exit": (1, "(2020-01-10)"),
        "zero_volume": (23, "23 bars"),
    },
    "tqqq_1m_yahoo_201912": {
        "gaps": (12, "14 bars missing in 5 of 6 sessions"),
        "missing_exit": (1, "(2019-12-24)"),
        "zero_volume": (1, "1 bar"),
    },
}


def report_of(path: Path) -> QualityReport:
    timeframe = "1d" if "daily" in path.stem or "_1d_" in path.stem else "1m" if "_1m_" in path.stem else "1h"
    return inspect_bars(DataSpec(provider="file", path=str(path), timeframe=timeframe), SessionSpec())


def test_every_real_file_is_in_the_table(market_data: Path) -> None:
    files = {str(path.relative_to(market_data).with_suffix("")) for path in market_data.rglob("*.parquet")}
    assert files == REAL.keys()


@pytest.mark.parametrize("name", list(REAL))
def test_a_real_file_has_these_defects_and_no_others(market_data: Path, name: str) -> None:
    found = {
        each.check: (each.count, each.found) for each in report_of(market_data / f"{name}.parquet").findings
    }
    assert {check: count for check, (count, _) in found.items()} == {
        check: count for check, (count, _) in REAL[name].items()
    }
    for check, (_, words) in REAL[name].items():
        assert words in found[check][1]


@pytest.mark.parametrize(("timeframe", "count"), [("1h", 22), ("5m", 259)])
def test_the_ragged_end_of_three_assets_is_found(market_data: Path, timeframe: str, count: int) -> None:
    path = market_data / "crypto_multi" / f"{{symbol}}usdt_{timeframe}_binance_2024.parquet"
    data = DataSpec(provider="file", path=str(path), symbols=["btc", "eth", "sol"])
    (finding,) = inspect_bars(data, SessionSpec()).findings
    assert (finding.check, finding.symbol, finding.count) == ("ragged", "sol", count)
    assert "after the others" in finding.found


def test_the_crash_of_2000_is_no_split_of_aapl(market_data: Path) -> None:
    report = report_of(market_data / "daily_aapl_bokeh_2000_2013.parquet")
    assert "2000-09-29" not in report.findings[0].found  # 53.50 to 28.19 over night, and it was true


def test_a_real_split_stops_the_bars_only_where_they_are_judged(market_data: Path) -> None:
    path = str(market_data / "daily_aapl_bokeh_2000_2013.parquet")
    spec = DataSpec(provider="file", path=path, timeframe="1d")
    assert load_bars(spec).n_bars == 3270
    with pytest.raises(BadInputError, match="1 bar with NaN or infinite values"):
        load_bars(DataSpec(provider="file", path=str(market_data / "spy_1m_yahoo_201912.parquet")))
