"""Answers that are no bars, answers that never come, and a machine without a network."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optimize.data.download.run import download_bars
from optimize.data.sources.clients.connection import Connection
from optimize.data.sources.clients.retry import retry_after
from optimize.data.spec import DataSpec
from optimize.errors import DownloadError
from tests.optimize.data.sources.clients.cases import CASES, check_rows, hurry, served

PAGE = "<html><title>Back soon</title></html>"
META = {"symbol": "QQQ", "instrumentType": "ETF", "exchangeTimezoneName": "America/New_York"}
BARE = {"meta": {**META, "currency": "USD"}, "timestamp": [0], "indicators": {"quote": [{"open": [1.0]}]}}
BARS = [
    ("binance", PAGE),
    ("binance", {"message": "maintenance"}),
    ("ccxt_coinbase", PAGE),
    ("ccxt_coinbase", {"message": "maintenance", "code": 7}),
    ("coinbase", PAGE),
    ("coinbase", [1]),
    ("coinbase", {"data": [1]}),
    ("coinbase", {"candles": {"start": 1}}),
    ("coinbase", {"candles": None}),
    ("coinbase", {"candles": [{"start": "1556668800", "open": "1"}]}),
    ("coinbase", {"candles": [{"start": "soon", "open": "1"}]}),
    ("alpaca_stock", PAGE),
    ("alpaca_stock", [1]),
    ("alpaca_stock", {"data": [1]}),
    ("alpaca_stock", {"bars": {"SPY": [{"t": "2020-01-02T15:00:00Z", "o": 1}]}}),
    ("alpaca_crypto", {"bars": {"BTC/USD": ["x"]}}),
    ("alpaca_crypto", {"bars": [1]}),
    ("yfinance", PAGE),
    ("yfinance", [1]),
    ("yfinance", {"data": [1]}),
    ("yfinance", {"chart": {"result": None, "error": None}}),
    ("yfinance", {"chart": {"result": [BARE], "error": None}}),
]
LISTINGS = [(name, PAGE) for name in CASES] + [
    ("binance", {"data": [1]}),
    ("coinbase", {"data": [1]}),
    ("coinbase", {"products": []}),
    ("coinbase", [1]),
    ("alpaca_stock", {"data": [1]}),
    ("alpaca_crypto", [1]),
    ("yfinance", {"data": [1]}),
]
SOURCES = {"binance": "ccxt binance", "ccxt_coinbase": "ccxt coinbase", "alpaca_stock": "alpaca"}
SOURCES |= {"alpaca_crypto": "alpaca", "yfinance_1h": "yfinance"}
SYMBOLS = {"ccxt": "BTC/USDT", "alpaca": "SPY", "coinbase": "BTC-USD", "yfinance": "SPY"}


def failure_of(spec: DataSpec, said: list[str]) -> str:
    """Return the one line of a download that its source fails; it names the remedy once."""
    with pytest.raises(DownloadError) as failure:
        download_bars(spec, said.append)
    text = str(failure.value)
    assert "\n" not in text
    assert text.count("type the same command again") == 1
    return text


@pytest.mark.market_data
@pytest.mark.parametrize(("name", "answer"), BARS)
def test_an_answer_that_holds_no_bars_is_one_line_that_says_what_came(
    name: str, answer: Any, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with served(CASES[name], market_data, monkeypatch) as double:
        double.answers = dict.fromkeys(range(9), answer)
        text = failure_of(CASES[name].spec_in(tmp_path), said)
        assert len(double.bars_asked) == 3
    assert (
        f"{SOURCES.get(name, name)} failed 3 times, the last time with: an answer that walkforge cannot "
        in text
    )
    assert "HTTP 200, text/html: <html><title>Back soon" in text if answer == PAGE else "HTTP 200: " in text
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.market_data
@pytest.mark.parametrize(("name", "answer"), LISTINGS)
def test_an_answer_that_lists_nothing_is_not_taken_for_an_unknown_symbol(
    name: str, answer: Any, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(CASES[name], market_data, monkeypatch) as double:
        double.other_answer = answer
        text = failure_of(CASES[name].spec_in(tmp_path), [])
        assert double.bars_asked == []
    assert (
        f"{SOURCES.get(name, name)} failed 3 times, the last time with: an answer that walkforge cannot "
        in text
    )
    assert "Back soon" in text if answer == PAGE else "HTTP 200: " in text


@pytest.mark.parametrize("provider", SYMBOLS)
def test_a_machine_without_a_network_is_told_so_after_two_tries(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        f"WALKFORGE_{provider.upper()}_URL", "http://nothing.invalid"
    )  # RFC 6761: has no address
    monkeypatch.setenv("ALPACA_API_KEY", "PKTESTKEY0000")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "secret-0000")
    hurry(monkeypatch)
    said: list[str] = []
    spec = DataSpec(provider=provider, symbols=[SYMBOLS[provider]], months=1, folder=str(tmp_path))
    text = failure_of(spec, said)
    assert "failed 2 times" in text
    assert "no network, or no such host: nothing.invalid cannot be found" in text
    assert len(said) == 1
    assert not list(tmp_path.rglob("*.p*"))


@pytest.mark.parametrize("reason", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN])
def test_a_network_without_a_route_is_told_as_none(reason: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)

    def unreachable() -> None:
        try:
            raise OSError(reason, os.strerror(reason))
        except OSError as error:
            raise RuntimeError("the client's own words") from error

    connection = Connection("a source", print, lambda error, status: None)
    with pytest.raises(DownloadError, match=r"failed 2 times, .* no network, or no such host: it cannot be"):
        connection.ask(unreachable)


def test_what_no_source_can_cause_is_raised_as_it_is() -> None:
    connection = Connection("a source", print, lambda error, status: None)
    with pytest.raises(ZeroDivisionError):
        connection.ask(lambda: 1 / 0)


@pytest.mark.market_data
@pytest.mark.parametrize("name", ["binance", "coinbase", "alpaca_stock", "yfinance"])
def test_an_answer_that_never_comes_is_given_up_and_asked_for_again(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    for module in ("exchange", "coinbase", "alpaca", "yahoo"):
        monkeypatch.setattr(f"optimize.data.sources.clients.{module}.TIMEOUT_S", 0.5)
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        double.hold_at = 1
        paths = download_bars(case.spec_in(tmp_path), said.append)
    (line,) = (line for line in said if "after try 1 of 6" in line)
    assert "timed out" in line, "the client gave it up, not the source"
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)


@pytest.mark.market_data
@pytest.mark.parametrize("name", ["binance", "coinbase", "alpaca_stock", "yfinance"])
def test_an_answer_that_breaks_off_is_asked_for_again(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        double.cut = frozenset({1})
        paths = download_bars(case.spec_in(tmp_path), said.append)
    assert sum("after try 1 of 6" in line for line in said) == 1
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)


def test_a_used_up_rate_limit_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2024, 8, 15, tzinfo=UTC)
    monkeypatch.setattr("optimize.clock.now", lambda: now)
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(now.timestamp()) + 42)}
    assert retry_after(used_up) == 42.0
    assert retry_after({**used_up, "X-RateLimit-Reset": "7"}) == 7.0
    assert retry_after({**used_up, "Retry-After": "3"}) == 3.0
    assert retry_after({**used_up, "X-RateLimit-Remaining": "12"}) is None
