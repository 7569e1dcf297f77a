"""Bars of any crypto exchange that ccxt knows, without a key."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from optimize.data.clients.access import find_address, import_extra, near_names, one_line
from optimize.data.clients.protocol import Download, Notice, Page, Reach, make_page
from optimize.data.clients.retry import BusyError, ask, may_pass, retry_after
from optimize.data.spec import TIMEFRAME_NS, DataSpec, timeframe_ns
from optimize.errors import BadInputError, DownloadError

T = TypeVar("T")

MS_NS = 1_000_000
TIMEOUT_MS = 30_000
PAGE_ROWS = 500  # where ccxt does not know how many an exchange gives
NEWEST_ROWS = {"kraken": 720}  # the rows, the unfinished bar among them, that it serves whatever is asked


class ExchangeClient:
    """A ccxt exchange that is asked for public bars only."""

    def __init__(self, spec: DataSpec, notice: Notice) -> None:
        self._ccxt = import_extra("ccxt", "ccxt", "ccxt")
        self._notice = notice
        self._id = spec.exchange
        self._response: Any = None
        self._exchange = self._open(derivatives=any(":" in symbol for symbol in spec.symbols))
        self.name = f"ccxt {spec.exchange}"
        self.timeframes = [name for name in TIMEFRAME_NS if name in (self._exchange.timeframes or {})]
        spot = (self._exchange.features or {}).get("spot") or {}
        self._page_rows = int((spot.get("fetchOHLCV") or {}).get("limit") or PAGE_ROWS)

    def restates(self, symbol: str) -> bool:
        """Return False: crypto knows no splits."""
        return False

    def reach(self, timeframe: str) -> Reach | None:
        """Return the span of the newest rows for an exchange that serves no others."""
        rows = NEWEST_ROWS.get(self._id)
        if rows is None:
            return None
        return Reach(
            span_ns=(rows - 1) * timeframe_ns(timeframe),
            said=f"{self._id} serves only the newest {rows} bars",
            remedy="choose another data.exchange",
        )

    def check(self, symbols: Sequence[str]) -> None:
        """Load the exchange's markets and look every symbol up, near names at hand."""
        known = list(self._ask(self._exchange.load_markets))
        for symbol in symbols:
            if symbol not in known:
                hint = near_names(symbol.upper(), known, cutoff=0.5)
                raise BadInputError(
                    f"data.symbols: {self._id} has no market {symbol!r}{hint} "
                    f"({len(known):,} markets, written like BTC/USDT)"
                )

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Step from the last bar of a page to the next one; an empty page steps over its whole length."""
        length_ns = timeframe_ns(timeframe)
        since_ns = start_ns
        while since_ns < end_ns:
            fetch = partial(self._exchange.fetch_ohlcv, symbol, timeframe, since_ns // MS_NS, self._page_rows)
            rows = np.array(self._ask(fetch), dtype=np.float64).reshape(-1, 6)
            stamps = rows[:, 0].astype(np.int64) * MS_NS
            last_ns = int(stamps.max(initial=-1))
            beyond = last_ns >= since_ns
            since_ns = last_ns + length_ns if beyond else since_ns + self._page_rows * length_ns
            yield make_page(stamps, rows[:, 1:], since_ns)

    def _open(self, *, derivatives: bool) -> Any:
        """Return the exchange of the spec; markets beside spot are loaded for symbols like A/B:B only."""
        if self._id not in self._ccxt.exchanges:
            hint = near_names(self._id, self._ccxt.exchanges)
            raise BadInputError(
                f"data.exchange={self._id!r} is none of the {len(self._ccxt.exchanges)} exchanges of "
                f"ccxt {self._ccxt.__version__}{hint}"
            )
        exchange = getattr(self._ccxt, self._id)({"enableRateLimit": True, "timeout": TIMEOUT_MS})
        if not exchange.has.get("fetchOHLCV"):
            raise BadInputError(f"data.exchange={self._id} serves no bars: choose another exchange")
        markets = exchange.options.get("fetchMarkets")
        if not derivatives and isinstance(markets, dict) and "spot" in markets.get("types", ()):
            markets["types"] = ["spot"]
        address = find_address("ccxt")
        if address is not None:
            exchange.urls["api"] = _redirected(exchange.urls["api"], address)
        exchange.session.hooks["response"].append(self._remember)
        return exchange

    def _remember(self, response: Any, *_: Any, **__: Any) -> None:
        """Keep the last response: ccxt's errors tell neither its status nor its headers."""
        self._response = response

    def _ask(self, request: Callable[[], T]) -> T:
        return ask(self.name, partial(self._once, request), self._notice)

    def _once(self, request: Callable[[], T]) -> T:
        """Make one request and say in our own errors how it failed."""
        self._response = None
        try:
            return request()
        except self._ccxt.NetworkError as error:
            status = None if self._response is None else self._response.status_code
            if status is None or status < 400 or may_pass(status):
                headers = None if self._response is None else self._response.headers
                raise BusyError(error, retry_after(headers)) from None
            raise BadInputError(self._refused(error)) from None
        except self._ccxt.AuthenticationError as error:
            raise BadInputError(self._refused(error)) from None
        except self._ccxt.BaseError as error:
            raise DownloadError(f"{self.name} cannot serve this: {one_line(error)}") from None

    def _refused(self, error: Exception) -> str:
        return (
            f"{self.name} refuses access to its public bars, for which walkforge sends no key (perhaps it "
            f"is closed to your country or address: choose another data.exchange): {one_line(error)}"
        )


def _redirected(urls: Any, address: str) -> Any:
    """Return ccxt's table of addresses with another scheme and host in each, and the same path."""
    if isinstance(urls, dict):
        return {name: _redirected(each, address) for name, each in urls.items()}
    return address + urlsplit(urls).path if isinstance(urls, str) else urls


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Keep a folder an exchange."""
    return (spec.exchange,)


EXCHANGE = Download(ExchangeClient, _shelf)
