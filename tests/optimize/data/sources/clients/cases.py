"""The request of each client in the tests, and the double that answers it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ccxt  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from envs.types import FloatArray, IntArray
from optimize.data.download.run import download_bars
from optimize.data.sources.clients.yahoo import PAGE_DAYS
from optimize.data.spec import DataSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError
from tests.optimize.data.sources.clients import doubles
from tests.optimize.data.sources.clients.doubles import SECOND_NS, Double, Served
from tests.optimize.data.sources.clients.yahoo_double import yahoo

ALPACA_KEY, ALPACA_SECRET = "PKTESTKEY0000", "alpaca-secret-4f1e9c"
ALPACA_ROWS = 1000  # of a page, for 10,000
YAHOO_DAYS = 730  # of a page of daily bars, for 3650
COINBASE_KEY = "organizations/1/apiKeys/2-test"


@dataclass(frozen=True)
class Case:
    """One download of real bars."""

    spec: dict[str, Any]
    files: dict[str, str]  # our symbol -> file of the market data
    ids: dict[str, str]  # our symbol -> the service's
    now: str
    pages: int  # of one symbol
    route: Callable[..., Any]
    local_days: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    later: str = ""  # a moment for the refresh

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.now).replace(tzinfo=UTC)

    @property
    def at_later(self) -> datetime:
        return datetime.fromisoformat(self.later).replace(tzinfo=UTC)

    def spec_in(self, folder: Path, **changes: Any) -> DataSpec:
        return DataSpec(**{**self.spec, "folder": str(folder), "symbols": list(self.files), **changes})

    def bars_of(self, market_data: Path, symbol: str) -> Served:
        return doubles.read_bars(market_data / f"{self.files[symbol]}.parquet", local_days=self.local_days)

    def start(self, at: datetime) -> pd.Timestamp:
        """Return the first bar that data.months before a moment ask for."""
        length = pd.Timedelta(timeframe_ns(str(self.spec["timeframe"])))
        return (pd.Timestamp(at) - pd.DateOffset(months=self.spec["months"])).ceil(length)

    def expected(
        self, market_data: Path, symbol: str, start: datetime, at: datetime
    ) -> tuple[IntArray, FloatArray]:
        """Return the bars of the file from start on that have ended at a moment."""
        served = self.bars_of(market_data, symbol)
        length_s = timeframe_ns(str(self.spec["timeframe"])) // SECOND_NS
        ended = served.start + length_s <= at.timestamp()
        chosen = (served.start >= start.timestamp()) & ended
        return served.start[chosen] * SECOND_NS, served.ohlcv[chosen]


CASES = {
    "binance": Case(
        spec={"provider": "ccxt", "exchange": "binance", "timeframe": "1h", "months": 6},
        files={
            "BTC/USDT": "crypto_multi/btcusdt_1h_binance_2024",
            "ETH/USDT": "crypto_multi/ethusdt_1h_binance_2024",
        },
        ids={"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT"},
        now="2024-08-15T12:34:56",
        later="2024-08-16T00:00:00",
        pages=5,
        route=doubles.binance,
    ),
    "ccxt_coinbase": Case(
        spec={"provider": "ccxt", "exchange": "coinbase", "timeframe": "1h", "months": 1},
        files={"BTC/USD": "btcusd_1h_coinbase_2017_2019"},
        ids={"BTC/USD": "BTC-USD"},
        now="2019-05-01T00:10:00",
        later="2019-05-02T03:00:00",
        pages=3,
        route=doubles.coinbase,
    ),
    "coinbase": Case(
        spec={"provider": "coinbase", "timeframe": "1h", "months": 3},
        files={"BTC-USD": "btcusd_1h_coinbase_2017_2019"},
        ids={"BTC-USD": "BTC-USD"},
        now="2019-05-01T00:10:00",
        later="2019-05-02T03:00:00",
        pages=8,
        route=doubles.coinbase,
    ),
    "alpaca_stock": Case(
        spec={"provider": "alpaca", "timeframe": "1h", "months": 12},
        files={"SPY": "spy_1h_lean_1998_2021"},
        ids={"SPY": "SPY"},
        now="2021-01-15T18:20:00",
        later="2021-01-20T22:00:00",
        pages=2,
        route=doubles.alpaca,
        environment={"ALPACA_API_KEY": ALPACA_KEY, "ALPACA_SECRET_KEY": ALPACA_SECRET},
    ),
    "alpaca_crypto": Case(
        spec={"provider": "alpaca", "timeframe": "5m", "months": 1},
        files={"BTC/USD": "crypto_multi/btcusdt_5m_binance_2024"},
        ids={"BTC/USD": "BTC/USD"},
        now="2024-08-15T12:34:56",
        later="2024-08-16T00:00:00",
        pages=9,
        route=doubles.alpaca,
    ),
    "yfinance": Case(
        spec={"provider": "yfinance", "timeframe": "1d", "months": 60},
        files={"QQQ": "daily_qqq_lean"},
        ids={"QQQ": "QQQ"},
        now="2021-02-12T19:00:00",
        later="2021-03-01T23:30:00",
        pages=3,
        route=yahoo,
        local_days=True,
    ),
    "yfinance_1h": Case(
        spec={"provider": "yfinance", "timeframe": "1h", "months": 22},
        files={"SPY": "spy_1h_lean_1998_2021"},
        ids={"SPY": "SPY"},
        now="2021-01-15T18:20:00",
        later="2021-01-20T22:00:00",
        pages=4,
        route=yahoo,
    ),
}


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the waits, throttles and large pages that make a client slow towards a double."""
    monkeypatch.setattr("optimize.data.sources.clients.retry.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("optimize.data.sources.clients.alpaca.ALPACA_PAGE_ROWS", ALPACA_ROWS)
    monkeypatch.setitem(PAGE_DAYS, "1d", YAHOO_DAYS)
    monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)


def double_of(case: Case, market_data: Path) -> Double:
    """Return the double of a case, at its moment."""
    bars = {case.ids[symbol]: case.bars_of(market_data, symbol) for symbol in case.files}
    return Double(bars, case.at, key=(ALPACA_KEY, ALPACA_SECRET))


def point_at(double: Double, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the client to the double, at its moment and with its keys."""
    for name, value in environment_of(double, case).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("optimize.clock.now", lambda: double.now)
    hurry(monkeypatch)


def environment_of(double: Double, case: Case) -> dict[str, str]:
    """Return the environment variables of a client."""
    return {f"WALKFORGE_{str(case.spec['provider']).upper()}_URL": double.url, **case.environment}


@contextmanager
def served(case: Case, market_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """Run the double of a case with its client sent there."""
    with doubles.serving(double_of(case, market_data), case.route) as double:
        point_at(double, case, monkeypatch)
        yield double


def make_coinbase_key() -> tuple[str, Any]:
    """Return a new secret key as text, and the public one to check it with."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode(), key.public_key()


def refusal_of(spec: DataSpec, said: list[str] | None = None) -> str:
    """Return the one line that refuses a download with exit code 2."""
    with pytest.raises(BadInputError) as refusal:
        download_bars(spec, print if said is None else said.append)
    assert refusal.value.exit_code == 2
    assert "\n" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    return str(refusal.value)


every_case = pytest.mark.parametrize("name", CASES)


def rows_of(path: Path) -> tuple[IntArray, FloatArray]:
    """Return the stamps in nanoseconds and the bars of a stored file."""
    frame = pd.read_parquet(path)
    return pd.DatetimeIndex(frame["timestamp"]).as_unit("ns").asi8, frame.iloc[:, 1:].to_numpy()


def check_rows(path: Path, case: Case, data: Path, symbol: str, start: datetime, at: datetime) -> None:
    """Check that a stored file holds the bars of the source between two moments."""
    stamps, ohlcv = rows_of(path)
    expected_stamps, expected = case.expected(data, symbol, start, at)
    np.testing.assert_array_equal(stamps, expected_stamps)
    np.testing.assert_array_equal(ohlcv, expected)
