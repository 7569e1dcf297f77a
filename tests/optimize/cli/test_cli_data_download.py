"""`walkforge data` with a provider that downloads, from the command line to the cached market."""

import json
from pathlib import Path

import pytest

from tests.optimize.cli.conftest import Run
from tests.optimize.data.sources.clients.cases import CASES, served

pytestmark = pytest.mark.market_data
TYPED = ["data", "data=ccxt", "data.symbols=[BTC/USDT,ETH/USDT]", "data.timeframe=1h", "data.months=6"]


def test_the_verb_downloads_checks_and_caches(
    run: Run, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(CASES["binance"], market_data, monkeypatch) as double:
        code, out, err = run(*TYPED)
        assert (code, err) == (0, "")
        assert "BTC/USDT: 4,367 bars of 1h, 2024-02-15T13:00:00Z to 2024-08-15T11:00:00Z, 0 gaps, in " in out
        assert "databases/market/ccxt/binance/ETH-USDT_1h.parquet" in out
        assert "cached" in out
        asked = len(double.asked)
        code, out, _ = run(*TYPED, "data.check=true")
        assert code == 0
        assert len(double.asked) == asked
        assert "nothing fetched; data.refresh=true appends what is new" in out
    folder = tmp_path / "databases" / "market" / "ccxt" / "binance"
    assert (folder / "BTC-USDT_1h.json").is_file()


def test_json_stays_json_while_lines_go_aside(
    run: Run, market_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(CASES["binance"], market_data, monkeypatch) as double:
        double.failures = {1: (429, {"Retry-After": "0"})}
        code, out, err = run(*TYPED, "format=json")
    assert code == 0
    assert json.loads(out)["summary"]["rows"] == 4367
    assert "waiting 0 s after try 1 of 6" in err
    assert "4,367 bars" in err


def test_a_failure_is_one_line_and_the_next_run_goes_on(
    run: Run, market_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(CASES["binance"], market_data, monkeypatch) as double:
        double.failures = dict.fromkeys(range(2, 20), (503, {}))
        code, out, err = run(*TYPED)
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith("walkforge: BTC/USDT: ccxt binance failed 6 times, the last time with: ")
        assert err.endswith("; 2,000 bars are kept; type the same command again to go on\n")
        double.failures = {}
        code, out, err = run(*TYPED)
        assert (code, err) == (0, "")
        assert "BTC/USDT: going on after 2,000 bars of a download that was cut short" in out


def test_an_unknown_symbol_is_one_line(
    run: Run, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(CASES["binance"], market_data, monkeypatch):
        code, out, err = run("data", "data=ccxt", "data.symbols=[BTC/USDT,ETHUSDT]")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "binance has no market 'ETHUSDT'; near names: ETH/USDT" in err
    assert list(tmp_path.iterdir()) == []


def test_a_study_never_downloads(run: Run, market_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CASES["binance"], market_data, monkeypatch) as double:
        code, _, err = run("study", "name=x", "data=ccxt")
        assert double.asked == []
    assert code == 2
    assert "download them first: walkforge data data=ccxt data.exchange=binance" in err
