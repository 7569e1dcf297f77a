"""Pages that come empty, and sources that have less than was asked for."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from optimize.data.download.gaps import EmptySpan, SpanRequest, describe_empty_spans
from optimize.data.download.run import download_bars
from optimize.data.sources.clients.protocol import Page
from optimize.data.sources.downloaded import checked_manifest
from optimize.data.spec import DataSpec
from optimize.data.timeframes import HOUR_NS
from tests.optimize.data.samples import stamp
from tests.optimize.data.sources.clients.cases import CASES, check_rows, every_case, hurry, rows_of, served
from tests.optimize.data.sources.clients.doubles import SECOND_NS, Double, Served, alpaca, serving

CHART = {"meta": {"symbol": "X"}, "indicators": {"quote": [{}]}}
EMPTY: Mapping[str, Any] = {
    "binance": [],
    "ccxt_coinbase": {"candles": []},
    "coinbase": {"candles": []},
    "alpaca_stock": {"bars": {}, "next_page_token": None},
    "alpaca_crypto": {"bars": {}, "next_page_token": None},
    "yfinance": {"chart": {"result": [CHART], "error": None}},
    "yfinance_1h": {"chart": {"result": [CHART], "error": None}},
}


@every_case
@pytest.mark.market_data
def test_a_page_that_comes_empty_is_asked_for_again(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        double.answers = {1: EMPTY[name]}
        paths = download_bars(case.spec_in(tmp_path), said.append)
    assert sum("no bars came from " in line and " again" in line for line in said) == 1
    assert not any("also when asked again" in line for line in said)
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)


@pytest.mark.market_data
def test_a_span_that_stays_empty_is_said_aloud(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["coinbase"]
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        double.answers = dict.fromkeys((2, 3, 5, 6), EMPTY["coinbase"])  # 5 and 6 ask for pages 2 and 3 again
        (path,) = download_bars(case.spec_in(tmp_path), said.append)
        asked = [int(query["start"]) for query in double.bars_asked]
    assert asked[5:7] == asked[2:4]
    assert len(asked) == case.pages + 2
    (line,) = (line for line in said if "also when asked again" in line)
    assert line.startswith(
        "BTC-USD: coinbase has no bars from 2019-02-26T01:00:00Z to 2019-03-23T01:00:00Z, also when asked "
        "again: either nothing was traded, or the source is at fault; the next data.refresh=true, or "
    )
    stamps, _ = rows_of(path)
    hole = (stamp("2019-02-26T01:00"), stamp("2019-03-23T01:00"))
    assert not ((stamps >= hole[0]) & (stamps < hole[1])).any()
    assert (stamps < hole[0]).any()
    assert (stamps >= hole[1]).any()
    assert checked_manifest(path, "BTC-USD").missing_bars is not None


@pytest.mark.market_data
def test_what_stays_empty_of_a_span_is_said_aloud(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with served(CASES["coinbase"], market_data, monkeypatch) as double:
        double.answers = dict.fromkeys((2, 3, 6), EMPTY["coinbase"])  # page 2 comes when asked for again
        download_bars(CASES["coinbase"].spec_in(tmp_path), said.append)
    assert (
        sum(
            "from 2019-02-26T01:00:00Z to 2019-03-23T01:00:00Z, asking coinbase again" in line
            for line in said
        )
        == 1
    )
    (line,) = (line for line in said if "also when asked again" in line)
    assert "has no bars from 2019-03-10T13:00:00Z to 2019-03-23T01:00:00Z, also" in line


@pytest.mark.market_data
def test_a_source_that_has_less_than_was_asked_for_is_said_aloud(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["coinbase"]
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        bars = double.bars["BTC-USD"]
        listed, delisted = (pd.Timestamp(day, tz="UTC").timestamp() for day in ("2019-03-01", "2019-04-10"))
        kept = (bars.start >= listed) & (bars.start < delisted)
        double.bars["BTC-USD"] = Served(bars.start[kept], bars.ohlcv[kept])
        download_bars(case.spec_in(tmp_path), said.append)
    assert (
        "BTC-USD: asked for bars from 2019-02-01T01:00:00Z on, but the first that coinbase has is of "
        "2019-03-01T00:00:00Z (2 of the data.months=3): it was listed later, or older bars are not kept there"
    ) in said
    assert (
        "BTC-USD: asked for bars up to 2019-05-01T00:00:00Z, but the last that coinbase has is of "
        "2019-04-09T23:00:00Z, 21 days earlier: it is not traded any more, or the source lags behind "
        "(data.refresh=true asks again)"
    ) in said


def test_a_hole_while_the_market_is_shut_is_none() -> None:
    def pages(start_ns: int, end_ns: int) -> Any:
        yield Page(np.empty(0, dtype=np.int64), np.empty((0, 5)), end_ns)

    start, end = stamp("2019-03-01"), stamp("2019-04-01")
    request = SpanRequest("SPY", "alpaca", pages, HOUR_NS, start, end)
    weekend = EmptySpan(stamp("2019-03-08T21:00"), stamp("2019-03-11T13:00"))
    week = EmptySpan(stamp("2019-03-08T21:00"), stamp("2019-03-15T13:00"))
    assert describe_empty_spans(request, [weekend], "XNYS") is None
    assert "from 2019-03-08T21:00:00Z" in str(describe_empty_spans(request, [weekend], "24/7"))
    assert "has no bars from 2019-03-08T21:00:00Z to 2019-03-15T13:00:00Z, also" in str(
        describe_empty_spans(request, [weekend, week], "XNYS")
    )
    assert " and in 1 more span, also" in str(describe_empty_spans(request, [week, week], "XNYS"))
    assert describe_empty_spans(request, [weekend], None) is not None


def local_days(first: str, last: str) -> Served:
    """Return daily bars of Chicago days, as Alpaca has them of crypto."""
    days = pd.date_range(first, last, freq="D", tz="America/Chicago")
    close = 100.0 + np.arange(len(days))
    rows = np.stack([close, close + 1, close - 1, close, close], axis=1)
    return Served(days.tz_convert("UTC").as_unit("ns").asi8 // SECOND_NS, rows)


CHANGES = {"2024-03-10": {23, 24}, "2024-11-03": {24, 25}}  # hours of the days around it


@pytest.fixture
def chicago(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Yield a double of Alpaca that has daily bars of Bitcoin."""
    hurry(monkeypatch)
    with serving(
        Double({"BTC/USD": local_days("2023-12-01", "2024-12-31")}, datetime.now(UTC)), alpaca
    ) as double:
        monkeypatch.setenv("WALKFORGE_ALPACA_URL", double.url)
        monkeypatch.setattr("optimize.clock.now", lambda: double.now)
        yield double


def daily_in(folder: Path) -> DataSpec:
    return DataSpec(
        provider="alpaca", symbols=["BTC/USD"], timeframe="1d", months=1, refresh=True, folder=str(folder)
    )


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("page_rows", [1, 2, 7])
def test_pages_of_local_days_lose_none_at_a_clock_change(
    page_rows: int, change: str, chicago: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.data.sources.clients.alpaca.ALPACA_PAGE_ROWS", page_rows)
    chicago.now = datetime.fromisoformat(change).replace(tzinfo=UTC) + timedelta(days=20)
    (path,) = download_bars(daily_in(tmp_path), print)
    stamps, _ = rows_of(path)
    served_ns = chicago.bars["BTC/USD"].start * SECOND_NS
    np.testing.assert_array_equal(stamps, served_ns[(served_ns >= stamps[0]) & (served_ns <= stamps[-1])])
    assert set(np.diff(stamps) // HOUR_NS) == CHANGES[change]


@pytest.mark.parametrize("change", CHANGES)
def test_refreshes_of_local_days_lose_none_and_take_none_too_early_at_a_clock_change(
    change: str, chicago: Double, tmp_path: Path
) -> None:
    begin = datetime.fromisoformat(change).replace(tzinfo=ZoneInfo("America/Chicago")).astimezone(UTC)
    start = chicago.bars["BTC/USD"].start
    for hours in (-3, 0.5, 22.5, 23.5, 24.5, 25.5, 46.5, 47.5, 48.5, 49.5, 72.5, 120):
        chicago.now = begin + timedelta(hours=hours)
        (path,) = download_bars(daily_in(tmp_path), print)
        stamps, _ = rows_of(path)
        over = np.append(start[1:] <= chicago.now_s, False) & (start >= stamps[0] / SECOND_NS)
        expected = start[over] * SECOND_NS
        assert len(expected) - len(stamps) in (0, 1), "the newest may come an hour late, never early"
        np.testing.assert_array_equal(stamps, expected[: len(stamps)])
    assert set(np.diff(stamps) // HOUR_NS) == CHANGES[change]
