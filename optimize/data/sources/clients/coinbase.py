"""Bars from Coinbase's Advanced Trade API, with or without a key."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.sources.clients.access import (
    find_address,
    find_keys,
    import_extra,
    masked_line,
    near_names,
    spell_keys,
)
from optimize.data.sources.clients.connection import ACCESS_REFUSED, TIMEOUT_S, Connection
from optimize.data.sources.clients.protocol import DownloadSource, HistoryLimit, Page, WaitNotice, make_page
from optimize.data.spec import DataSpec
from optimize.data.timeframes import SECOND_NS, timeframe_ns
from optimize.errors import BadInputError

GRANULARITY = {
    "1m": "ONE_MINUTE",
    "5m": "FIVE_MINUTE",
    "15m": "FIFTEEN_MINUTE",
    "30m": "THIRTY_MINUTE",
    "1h": "ONE_HOUR",
    "2h": "TWO_HOUR",
    "6h": "SIX_HOUR",
    "1d": "ONE_DAY",
}
CANDLE_FIELDS = ("open", "high", "low", "close", "volume")
COINBASE_PAGE_ROWS = 300  # a longer span is refused


class CoinbaseClient:
    """Client of Coinbase's library; with a key in the environment it uses the authenticated endpoints."""

    name = "coinbase"
    timeframes = tuple(GRANULARITY)

    def __init__(self, spec: DataSpec, notice: WaitNotice) -> None:
        rest = import_extra("coinbase", "coinbase-advanced-py", "coinbase.rest")
        requests = import_extra("coinbase", "requests", "requests")
        # The library logs each failed request with the server's message; our error already contains it.
        logging.getLogger("coinbase.RESTClient").setLevel(logging.CRITICAL)
        self._connection = Connection(self.name, notice, self._explain)
        self._keys = find_keys("coinbase")
        key, secret = self._keys or (None, None)
        try:
            self._client = rest.RESTClient(api_key=key, api_secret=secret, timeout=TIMEOUT_S)
        except ValueError:  # the secret contains an invalid escape
            raise BadInputError(self._bad_key("the secret cannot be read")) from None
        self._client.session.hooks["response"].append(self._connection.remember)
        address = find_address("coinbase")
        if address is not None:
            self._client.session.mount("https://", _redirecting(requests, address))

    def restates(self, symbol: str) -> bool:
        """Return False: crypto prices are never restated."""
        return False

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        """Return None: Coinbase provides its whole history."""
        return None

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse symbols that are not among the products, suggesting similar names."""
        known = self._connection.ask(self._products)
        for symbol in symbols:
            if symbol not in known:
                hint = near_names(symbol.upper().replace("/", "-"), known, cutoff=0.5)
                raise BadInputError(
                    f"data.symbols: coinbase has no product {symbol!r}{hint} "
                    f"({len(known):,} products, written like BTC-USD)"
                )

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield spans of 300 bars, oldest first; within a span Coinbase returns the newest first."""
        length_ns = timeframe_ns(timeframe)
        for first_ns in range(start_ns, end_ns, COINBASE_PAGE_ROWS * length_ns):
            until_ns = min(first_ns + COINBASE_PAGE_ROWS * length_ns, end_ns)
            span = {
                "product_id": symbol,
                "start": str(first_ns // SECOND_NS),
                "end": str((until_ns - length_ns) // SECOND_NS),  # inclusive
                "granularity": GRANULARITY[timeframe],
            }
            yield make_page(*self._connection.ask(partial(self._candles, span)), until_ns)

    def _products(self) -> list[str]:
        """Return the names of all products."""
        get = self._client.get_products if self._keys else self._client.get_public_products
        names = [str(product["product_id"]) for product in get().to_dict()["products"]]
        if not names:
            raise ValueError("it lists no product")
        return names

    def _candles(self, span: dict[str, str]) -> tuple[IntArray, FloatArray]:
        """Return the bar starts (R,) and bars (R, 5) of a span."""
        get = self._client.get_candles if self._keys else self._client.get_public_candles
        candles = get(**span).to_dict()["candles"]
        stamps = np.array([int(each["start"]) for each in candles], dtype=np.int64) * SECOND_NS
        return stamps, np.array([[float(each[name]) for name in CANDLE_FIELDS] for each in candles]).reshape(
            -1, 5
        )

    def _explain(self, error: Exception, status: int | None) -> Exception | None:
        """Translate a refusal into an error with a remedy; None if it is unknown."""
        unsigned = type(error) is Exception  # raised by the client if it cannot sign with the key
        return (
            BadInputError(self._bad_key(masked_line(error))) if unsigned or status in ACCESS_REFUSED else None
        )

    def _bad_key(self, said: str) -> str:
        remedy = f"check {spell_keys('coinbase')}, or unset both: its bars are public"
        if self._keys is None:
            remedy = "walkforge sent no key, for its bars are public"
        return f"coinbase refuses access ({remedy}): {said}"


def _redirecting(requests: Any, address: str) -> Any:
    """Return an adapter that redirects requests for Coinbase to another address, keeping path and query."""

    class Redirecting(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # requests is imported lazily
        """Rewrites the scheme and host of each request."""

        def send(self, request: Any, *arguments: Any, **settings: Any) -> Any:
            """Send the request to the other address."""
            request.url = address + request.path_url
            return super().send(request, *arguments, **settings)

    return Redirecting()


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Return no subfolder: all symbols share the provider's folder."""
    return ()


COINBASE = DownloadSource(CoinbaseClient, _shelf)
