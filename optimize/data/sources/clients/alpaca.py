"""Bars from Alpaca: US stocks (needs a key) and crypto (needs none)."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.sources.clients.access import (
    find_address,
    find_keys,
    import_extra,
    masked_line,
    spell_keys,
)
from optimize.data.sources.clients.connection import ACCESS_REFUSED, TIMEOUT_S, Connection
from optimize.data.sources.clients.protocol import DownloadSource, HistoryLimit, Page, WaitNotice, make_page
from optimize.data.spec import DataSpec
from optimize.data.timeframes import SECOND_NS, TIMEFRAME_NS
from optimize.errors import BadInputError

TIMEFRAME_UNITS = {"m": "Minute", "h": "Hour", "d": "Day"}
BAR_FIELDS = ("o", "h", "l", "c", "v")
ALPACA_PAGE_ROWS = 10_000
WRONG_REQUEST = (400, 404, 422)


class AlpacaClient:
    """Client of Alpaca's libraries for stocks and for crypto (symbols with a slash)."""

    name = "alpaca"
    timeframes = tuple(TIMEFRAME_NS)

    def __init__(self, spec: DataSpec, notice: WaitNotice) -> None:
        self._historical = import_extra("alpaca", "alpaca-py", "alpaca.data.historical")
        self._asked = import_extra("alpaca", "alpaca-py", "alpaca.data.requests")
        self._frames = import_extra("alpaca", "alpaca-py", "alpaca.data.timeframe")
        self._connection = Connection(self.name, notice, self._explain)
        self._spec = spec
        self._keys = find_keys("alpaca")
        self._clients: dict[bool, Any] = {}

    def restates(self, symbol: str) -> bool:
        """Return whether these are adjusted prices of a stock."""
        return "/" not in symbol and self._spec.adjustment != "raw"

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        """Return None: Alpaca has no limit on the age of bars."""
        return None

    def check(self, symbols: Sequence[str]) -> None:
        """Request the latest bar of every symbol; refuse symbols without one."""
        for is_crypto in (False, True):
            chosen = [symbol for symbol in symbols if ("/" in symbol) is is_crypto]
            known = self._connection.ask(partial(self._latest, chosen, is_crypto)) if chosen else {}
            for symbol in chosen:
                if symbol not in known:
                    kind = "crypto pair" if is_crypto else f"stock on data.feed={self._spec.feed}"
                    raise BadInputError(
                        f"data.symbols: alpaca has no {kind} {symbol!r} "
                        "(stocks are written like SPY, crypto like BTC/USD)"
                    )

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield pages, each starting after the previous page's last bar; an incomplete page is the last."""
        since_ns = start_ns
        while since_ns < end_ns:
            stamps, rows = self._connection.ask(partial(self._bars, symbol, timeframe, since_ns, end_ns))
            # A daily bar covers a local day, which has 23 hours when clocks go forward.
            since_ns = int(stamps.max()) + SECOND_NS if len(stamps) >= ALPACA_PAGE_ROWS else end_ns
            yield make_page(stamps, rows, since_ns)

    def _bars(self, symbol: str, timeframe: str, since_ns: int, end_ns: int) -> tuple[IntArray, FloatArray]:
        """Request one page; return its bar starts (R,) and bars (R, 5)."""
        unit = getattr(self._frames.TimeFrameUnit, TIMEFRAME_UNITS[timeframe[-1]])
        span = {
            "symbol_or_symbols": symbol,
            "timeframe": self._frames.TimeFrame(int(timeframe[:-1]), unit),
            "start": datetime.fromtimestamp(since_ns // SECOND_NS, UTC),
            "end": datetime.fromtimestamp(end_ns // SECOND_NS - 1, UTC),  # inclusive
            "limit": ALPACA_PAGE_ROWS,
        }
        client = self._client(is_crypto="/" in symbol)
        if "/" in symbol:
            got = client.get_crypto_bars(self._asked.CryptoBarsRequest(**span))
        else:
            stock = {"adjustment": self._spec.adjustment, "feed": self._spec.feed}
            got = client.get_stock_bars(self._asked.StockBarsRequest(**span, **stock))
        bars = dict(got).get(symbol) or []
        stamps = np.array([bar["t"].removesuffix("Z") for bar in bars], dtype="datetime64[ns]")
        rows = np.array([[float(bar[name]) for name in BAR_FIELDS] for bar in bars]).reshape(-1, 5)
        return stamps.astype(np.int64), rows

    def _latest(self, symbols: list[str], is_crypto: bool) -> dict[str, Any]:
        """Return the latest bar of each symbol that has one."""
        client = self._client(is_crypto)
        if is_crypto:
            return dict(
                client.get_crypto_latest_bar(self._asked.CryptoLatestBarRequest(symbol_or_symbols=symbols))
            )
        request = self._asked.StockLatestBarRequest(symbol_or_symbols=symbols, feed=self._spec.feed)
        return dict(client.get_stock_latest_bar(request))

    def _client(self, is_crypto: bool) -> Any:
        """Return the client for stocks or for crypto, created on first use."""
        if is_crypto not in self._clients:
            if not is_crypto and self._keys is None:
                raise BadInputError(
                    "data.provider=alpaca serves stocks with a key only: set the environment variables "
                    f"{spell_keys('alpaca')} (an account is free)"
                )
            kind = "CryptoHistoricalDataClient" if is_crypto else "StockHistoricalDataClient"
            key, secret = self._keys or (None, None)
            client = getattr(self._historical, kind)(
                key, secret, raw_data=True, url_override=find_address("alpaca")
            )
            client._retry = 0  # its own retries always wait 3 s; ours honour Retry-After
            # The library sets no timeout: without one a silent server would block for ever.
            client._session.request = partial(client._session.request, timeout=TIMEOUT_S)
            client._session.hooks["response"].append(self._connection.remember)
            self._clients[is_crypto] = client
        return self._clients[is_crypto]

    def _explain(self, error: Exception, status: int | None) -> Exception | None:
        """Translate a refusal into an error with a remedy; None if it is unknown."""
        if status in ACCESS_REFUSED and "subscription" in str(error):
            remedy = "set data.feed=iex, or subscribe to the feed"
            return BadInputError(
                f"alpaca refuses data.feed={self._spec.feed} ({remedy}): {masked_line(error)}"
            )
        if status in ACCESS_REFUSED:
            remedy = f"check the environment variables {spell_keys('alpaca')}"
            return BadInputError(f"alpaca refuses the key ({remedy}): {masked_line(error)}")
        if status in WRONG_REQUEST:
            return BadInputError(f"alpaca refuses data.symbols or another setting: {masked_line(error)}")
        return None


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Return a folder per feed and adjustment, whose prices must not be mixed."""
    return ("crypto",) if "/" in symbol else (f"{spec.feed}-{spec.adjustment}",)


ALPACA = DownloadSource(AlpacaClient, _shelf)
