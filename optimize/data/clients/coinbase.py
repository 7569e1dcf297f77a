"""Bars of Coinbase's Advanced Trade API, public or with a key."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.clients.access import (
    find_address,
    find_keys,
    import_extra,
    near_names,
    one_line,
    spell_keys,
)
from optimize.data.clients.connection import REFUSED, TIMEOUT_S, Connection
from optimize.data.clients.protocol import Download, Notice, Page, Reach, make_page
from optimize.data.spec import DataSpec, timeframe_ns
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
FIELDS = ("open", "high", "low", "close", "volume")
PAGE_ROWS = 300  # a longer span is refused
SECOND_NS = 1_000_000_000


class CoinbaseClient:
    """Coinbase's own client; with a key in the environment it asks the keyed addresses."""

    name = "coinbase"
    timeframes = tuple(GRANULARITY)

    def __init__(self, spec: DataSpec, notice: Notice) -> None:
        rest = import_extra("coinbase", "coinbase-advanced-py", "coinbase.rest")
        requests = import_extra("coinbase", "requests", "requests")
        # It logs each failed request, the server's words included; our one line says what matters.
        logging.getLogger("coinbase.RESTClient").setLevel(logging.CRITICAL)
        self._connection = Connection(self.name, notice, self._explain)
        self._keys = find_keys("coinbase")
        key, secret = self._keys or (None, None)
        try:
            self._client = rest.RESTClient(api_key=key, api_secret=secret, timeout=TIMEOUT_S)
        except ValueError:  # a secret with a broken escape
            raise BadInputError(self._bad_key("the secret cannot be read")) from None
        self._client.session.hooks["response"].append(self._connection.remember)
        address = find_address("coinbase")
        if address is not None:
            self._client.session.mount("https://", _redirecting(requests, address))

    def restates(self, symbol: str) -> bool:
        """Return False: crypto knows no splits."""
        return False

    def reach(self, timeframe: str) -> Reach | None:
        """Return None: Coinbase serves its whole history."""
        return None

    def check(self, symbols: Sequence[str]) -> None:
        """List the products and look every symbol up, near names at hand."""
        known = self._connection.ask(self._products)
        for symbol in symbols:
            if symbol not in known:
                hint = near_names(symbol.upper().replace("/", "-"), known, cutoff=0.5)
                raise BadInputError(
                    f"data.symbols: coinbase has no product {symbol!r}{hint} "
                    f"({len(known):,} products, written like BTC-USD)"
                )

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Ask for spans of 300 bars, the oldest first; within a span Coinbase gives the newest first."""
        length_ns = timeframe_ns(timeframe)
        for first_ns in range(start_ns, end_ns, PAGE_ROWS * length_ns):
            until_ns = min(first_ns + PAGE_ROWS * length_ns, end_ns)
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
        """Return the stamps (R,) and bars (R, 5) of a span."""
        get = self._client.get_candles if self._keys else self._client.get_public_candles
        candles = get(**span).to_dict()["candles"]
        stamps = np.array([int(each["start"]) for each in candles], dtype=np.int64) * SECOND_NS
        return stamps, np.array([[float(each[name]) for name in FIELDS] for each in candles]).reshape(-1, 5)

    def _explain(self, error: Exception, status: int | None) -> Exception | None:
        """Return what a refusal means."""
        unsigned = type(error) is Exception  # what the client raises where it cannot sign with the key
        return BadInputError(self._bad_key(one_line(error))) if unsigned or status in REFUSED else None

    def _bad_key(self, said: str) -> str:
        remedy = f"check {spell_keys('coinbase')}, or unset both: its bars are public"
        if self._keys is None:
            remedy = "walkforge sent no key, for its bars are public"
        return f"coinbase refuses access ({remedy}): {said}"


def _redirecting(requests: Any, address: str) -> Any:
    """Return an adapter that sends what is meant for Coinbase to another address, path and query kept."""

    class Redirecting(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # requests is imported lazily
        """Rewrites the scheme and host of each request."""

        def send(self, request: Any, *arguments: Any, **settings: Any) -> Any:
            """Send the request elsewhere."""
            request.url = address + request.path_url
            return super().send(request, *arguments, **settings)

    return Redirecting()


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Keep one folder."""
    return ()


COINBASE = Download(CoinbaseClient, _shelf)
