"""Bars from any crypto exchange supported by ccxt, without a key."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.sources.clients.access import find_address, import_extra, masked_line, near_names
from optimize.data.sources.clients.connection import TIMEOUT_S, Connection
from optimize.data.sources.clients.protocol import DownloadSource, HistoryLimit, Page, WaitNotice, make_page
from optimize.data.sources.clients.retry import BusyError, retry_after
from optimize.data.spec import DataSpec
from optimize.data.timeframes import TIMEFRAME_NS, timeframe_ns
from optimize.errors import BadInputError, DownloadError

MS_NS = 1_000_000
USUAL_PAGE_ROWS = 500  # if ccxt has no page size of the exchange
NEWEST_ROWS = {
    "kraken": 720
}  # exchanges that only provide this many newest rows, the unfinished bar included


class ExchangeClient:
    """Client of a ccxt exchange, used for public bars only."""

    def __init__(self, spec: DataSpec, notice: WaitNotice) -> None:
        self._ccxt = import_extra("ccxt", "ccxt", "ccxt")
        self._id = spec.exchange
        self.name = f"ccxt {spec.exchange}"
        self._connection = Connection(self.name, notice, self._explain)
        self._exchange = self._open(derivatives=any(":" in symbol for symbol in spec.symbols))
        self.timeframes = [name for name in TIMEFRAME_NS if name in (self._exchange.timeframes or {})]
        spot = (self._exchange.features or {}).get("spot") or {}
        self._page_rows = int((spot.get("fetchOHLCV") or {}).get("limit") or USUAL_PAGE_ROWS)

    def restates(self, symbol: str) -> bool:
        """Return False: crypto prices are never restated."""
        return False

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        """Return the limit of an exchange that only provides its newest rows."""
        rows = NEWEST_ROWS.get(self._id)
        if rows is None:
            return None
        return HistoryLimit(
            span_ns=(rows - 1) * timeframe_ns(timeframe),
            statement=f"{self._id} serves only the newest {rows} bars",
            remedy="choose another data.exchange",
        )

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse symbols that are not among the exchange's markets, suggesting similar names."""
        known = self._connection.ask(self._markets)
        for symbol in symbols:
            if symbol not in known:
                hint = near_names(symbol.upper(), known, cutoff=0.5)
                raise BadInputError(
                    f"data.symbols: {self._id} has no market {symbol!r}{hint} "
                    f"({len(known):,} markets, written like BTC/USDT)"
                )

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield pages, each starting after the last bar of the previous one; empty pages are skipped over."""
        length_ns = timeframe_ns(timeframe)
        since_ns = start_ns
        while since_ns < end_ns:
            stamps, rows = self._connection.ask(partial(self._bars, symbol, timeframe, since_ns))
            last_ns = int(stamps.max(initial=-1))
            beyond = last_ns >= since_ns
            since_ns = last_ns + length_ns if beyond else since_ns + self._page_rows * length_ns
            yield make_page(stamps, rows, since_ns)

    def _markets(self) -> list[str]:
        """Return the names of all markets."""
        names = list(self._exchange.load_markets())
        if not names:
            raise ValueError("it lists no market")
        return names

    def _bars(self, symbol: str, timeframe: str, since_ns: int) -> tuple[IntArray, FloatArray]:
        """Request one page; return its bar starts (R,) and bars (R, 5)."""
        got = self._exchange.fetch_ohlcv(symbol, timeframe, since_ns // MS_NS, self._page_rows)
        rows = np.array(got, dtype=np.float64).reshape(-1, 6)
        if not len(rows) and not _may_be_empty(self._connection.json):
            raise ValueError("no list of bars")
        return rows[:, 0].astype(np.int64) * MS_NS, rows[:, 1:]

    def _open(self, *, derivatives: bool) -> Any:
        """Return the exchange of the spec; derivative markets are loaded only for symbols like A/B:B."""
        if self._id not in self._ccxt.exchanges:
            hint = near_names(self._id, self._ccxt.exchanges)
            raise BadInputError(
                f"data.exchange={self._id!r} is not one of the {len(self._ccxt.exchanges)} exchanges of "
                f"ccxt {self._ccxt.__version__}{hint}"
            )
        exchange = getattr(self._ccxt, self._id)({"enableRateLimit": True, "timeout": TIMEOUT_S * 1000})
        if not exchange.has.get("fetchOHLCV"):
            raise BadInputError(f"data.exchange={self._id} serves no bars: choose another exchange")
        markets = exchange.options.get("fetchMarkets")
        if not derivatives and isinstance(markets, dict) and "spot" in markets.get("types", ()):
            markets["types"] = ["spot"]
        address = find_address("ccxt")
        if address is not None:
            exchange.urls["api"] = _redirected(exchange.urls["api"], address)
        exchange.session.hooks["response"].append(self._connection.remember)
        return exchange

    def _explain(self, error: Exception, status: int | None) -> Exception | None:
        """Translate an error of ccxt; a network error without an HTTP error status is transient."""
        passing = isinstance(error, self._ccxt.NetworkError)
        if isinstance(error, self._ccxt.AuthenticationError) or (passing and (status or 0) >= 400):
            return BadInputError(self._refused(error))
        if passing:
            return BusyError(error, retry_after(self._connection.headers))
        if isinstance(error, self._ccxt.BaseError):
            return DownloadError(f"{self.name} cannot serve this: {masked_line(error)}")
        return None

    def _refused(self, error: Exception) -> str:
        return (
            f"{self.name} refuses access to its public bars, for which walkforge sends no key (perhaps it "
            f"is closed to your country or address: choose another data.exchange): {masked_line(error)}"
        )


def _may_be_empty(answer: Any) -> bool:
    """Return whether an answer without bars has at least the form of an answer with bars.

    ccxt returns no bars for any unknown answer, such as {"message": "maintenance"} or a web page.
    """
    if isinstance(answer, dict):
        places = [value is None or _may_be_empty(value) for value in answer.values()]
        return any(places) or not answer or answer.get("s") == "no_data"
    return isinstance(answer, list)


def _redirected(urls: Any, address: str) -> Any:
    """Return ccxt's table of addresses with scheme and host replaced and paths kept."""
    if isinstance(urls, dict):
        return {name: _redirected(each, address) for name, each in urls.items()}
    return address + urlsplit(urls).path if isinstance(urls, str) else urls


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Return a folder per exchange."""
    return (spec.exchange,)


EXCHANGE = DownloadSource(ExchangeClient, _shelf)
