"""A request that a client cannot serve is refused in one line without a key in it."""

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from optimize.cli.dispatch import compose_configs
from optimize.data.download.run import download_bars
from optimize.data.market import load_bars
from optimize.data.sources.clients.retry import BusyError, request_with_retries, retry_after
from optimize.data.sources.providers import PROVIDERS
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError, DownloadError
from tests.optimize.data.sources.clients.cases import (
    CASES,
    Case,
    refusal_of,
    served,
)
from tests.optimize.data.sources.clients.doubles import kraken

DOWNLOADING = sorted(name for name, provider in PROVIDERS.items() if provider.download)
WRONG = {
    "binance": ("BTC-USDT", "binance has no market 'BTC-USDT'; near names: BTC/USDT"),
    "ccxt_coinbase": ("BTC/USDD", "coinbase has no market 'BTC/USDD'; near names: BTC/USD"),
    "coinbase": ("BTC/USD", "coinbase has no product 'BTC/USD'; near names: BTC-USD"),
    "alpaca_stock": ("SPYY", "alpaca has no stock on data.feed=iex 'SPYY'"),
    "alpaca_crypto": ("BTC/USDD", "alpaca has no crypto pair 'BTC/USDD'"),
    "yfinance": ("QQQQ", "Yahoo has no prices of 'QQQQ'"),
    "yfinance_1h": ("NOPE", "Yahoo has no prices of 'NOPE'"),
}


@pytest.mark.market_data
@pytest.mark.parametrize("name", CASES)
def test_an_unknown_symbol_is_refused_before_anything_is_downloaded(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    wrong, said = WRONG[name]
    with served(case, market_data, monkeypatch) as double:
        text = refusal_of(case.spec_in(tmp_path, symbols=[*case.files, wrong]))
        assert double.bars_asked == []
    assert said in text
    assert not list(tmp_path.rglob("*.p*"))


@pytest.mark.market_data
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_one_line(
    name: str, status: int, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    with served(case, market_data, monkeypatch) as double:
        double.failures = dict.fromkeys(range(9), (status, {}))
        assert "refuses" in refusal_of(case.spec_in(tmp_path))
        assert len(double.bars_asked) <= 2, "it is not asked again and again (yfinance does so once)"


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("binance", {"exchange": "binanc"}, "data.exchange='binanc' is not one of the"),
        ("binance", {"exchange": "binanc"}, "near names: binance"),
        ("ccxt_coinbase", {"timeframe": "4h"}, "one of 1m, 5m, 15m, 30m, 1h, 2h, 6h, 1d from ccxt coinbase"),
        ("coinbase", {"timeframe": "4h"}, "data.timeframe='4h' is not allowed"),
        ("coinbase", {"source_timeframe": "12h"}, "data.source_timeframe='12h' is not allowed"),
        ("coinbase", {"months": None}, "data.months=None is not allowed"),
        ("yfinance", {"adjustment": "raw"}, "Yahoo gives no prices before splits"),
        ("yfinance_1h", {"months": 25}, "Yahoo serves 1h bars of the last 730 days only"),
        ("yfinance_1h", {"timeframe": "5m", "months": 3}, "5m bars of the last 60 days only"),
        ("yfinance_1h", {"timeframe": "1m", "months": 1}, "1m bars of the last 8 days only"),
        ("alpaca_stock", {"symbols": []}, "data.symbols=[] is not allowed"),
    ],
)
def test_what_a_source_does_not_serve_is_said(
    name: str,
    changes: dict[str, Any],
    said: str,
    market_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = CASES[name]
    with served(case, market_data, monkeypatch) as double:
        assert said in refusal_of(case.spec_in(tmp_path, **changes))
        assert double.bars_asked == []


KRAKEN = Case(
    spec={"provider": "ccxt", "exchange": "kraken", "timeframe": "1h", "months": 2},
    files={"BTC/USD": "btcusd_1h_coinbase_2017_2019"},
    ids={"BTC/USD": "XXBTZUSD"},
    now="2019-05-01T00:10:00",
    pages=1,
    route=kraken,
)


@pytest.mark.market_data
def test_kraken_says_its_limit_aloud_and_serves_what_it_has(
    market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = KRAKEN.spec_in(tmp_path)
    with served(KRAKEN, market_data, monkeypatch) as double:
        text = refusal_of(spec)
        assert "kraken serves only the newest 720 bars, but BTC/USD from 2019-03-01T01:00:00Z" in text
        assert "take fewer data.months (null: all that it serves) or a coarser data.timeframe" in text
        assert double.bars_asked == []
        newest = replace(spec, months=None)
        download_bars(newest, print)
        bars = load_bars(newest)
        assert bars.n_bars == 719, "the last of the 720 is not over"
        double.now = double.now.replace(month=7)
        assert "to begin anew" in refusal_of(replace(newest, refresh=True))


@pytest.mark.parametrize("provider", DOWNLOADING)
def test_a_missing_package_is_one_line(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ccxt", "yfinance", "coinbase.rest", "alpaca.data.historical"):
        monkeypatch.setitem(sys.modules, module, None)
    hint = rf"needs the \S+ package: pip install -c constraints\.txt -e '\.\[{provider}\]'"
    with pytest.raises(BadInputError, match=hint):
        download_bars(DataSpec(provider=provider, symbols=["X"], months=1, folder=str(tmp_path)), print)


@pytest.mark.parametrize("provider", DOWNLOADING)
@pytest.mark.parametrize(
    "changes",
    [
        {"symbols": ["BTC/USDT", "ETH/USDT"], "months": 24},
        {"symbols": ["EURUSD=X", "^GSPC", "A/B:B"], "timeframe": "4h", "source_timeframe": "1h"},
        {"symbols": ["SPY"], "adjustment": "split", "feed": "sip", "exchange": "kraken"},
    ],
)
def test_reading_what_was_not_downloaded_says_what_to_type(
    provider: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    spec = DataSpec(provider=provider, folder=str(tmp_path / "my folder"), **changes)
    with pytest.raises(BadInputError, match="download them first: walkforge data data=") as refusal:
        load_bars(spec)
    line = str(refusal.value)
    assert not list(tmp_path.iterdir()), "no verb but data downloads"
    _, verb, *overrides = shlex.split(line[line.index("walkforge data ") :])
    parsed = OverridesParser.create().parse_overrides(overrides)
    typed = {each.key_or_group: each.value() for each in parsed}
    named = ["symbols", "months", "folder"]
    named += ["exchange"] if provider == "ccxt" else []
    named += ["adjustment"] if provider in ("alpaca", "yfinance") else []
    named += ["feed"] if provider == "alpaca" else []
    assert typed == {
        "data": provider,
        "data.timeframe": spec.source_timeframe or spec.timeframe or "1h",
        **{f"data.{name}": getattr(spec, name) for name in named},
    }
    if "symbols" in changes and len(spec.symbols) == 1:
        (config,) = compose_configs(verb, overrides)
        assert (config.data.provider, config.data.symbols) == (provider, spec.symbols)


def test_a_wrong_address_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WALKFORGE_CCXT_URL", "mirror.example")
    text = refusal_of(DataSpec(provider="ccxt", symbols=["BTC/USDT"], months=1, folder=str(tmp_path)))
    assert "WALKFORGE_CCXT_URL='mirror.example' is not an address" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exchange": "../x"}, "data.exchange='../x' is not allowed"),
        ({"feed": "otc"}, "data.feed='otc' is not allowed: data.feed must be one of iex, sip"),
        ({"adjustment": "none"}, "data.adjustment must be one of raw, split, dividend, all"),
        ({"folder": " "}, "data.folder"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(said)):
        DataSpec(**changes)


def test_retry_after_is_seconds_or_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimize.clock.now", lambda: CASES["binance"].at)
    assert retry_after({"retry-after": "7"}) == 7.0
    assert retry_after({"Retry-After": "Thu, 15 Aug 2024 12:35:06 GMT"}) == 10.0
    assert retry_after({"Retry-After": "Thu, 15 Aug 2004 12:35:06 GMT"}) == 0.0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is retry_after(None) is None


def test_a_source_that_asks_for_too_long_a_wait_is_left_alone() -> None:
    def banned() -> None:
        raise BusyError("banned", retry_after_s=3600.0)

    with pytest.raises(DownloadError, match=r"binance asks to wait 3,600 s \(banned\)"):
        request_with_retries("binance", banned, print)


def test_waits_double_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)

    def busy() -> None:
        raise BusyError("overload")

    said: list[str] = []
    with pytest.raises(DownloadError, match="failed 6 times, the last time with: overload"):
        request_with_retries("binance", busy, said.append)
    assert slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(said) == 5
