"""HTTP doubles on 127.0.0.1 that serve real bars as the exchanges and services do."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import numpy as np
import pandas as pd

from envs.types import FloatArray, IntArray

Query = Mapping[str, str]
Answer = tuple[int, Any]
SECOND_NS = 10**9
NEW_YORK = "America/New_York"
POLL_S = 0.01  # how soon a double is gone
SECONDS = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Served:
    """One symbol's bars; (R,) starts in seconds and (R, 5) prices and volume."""

    start: IntArray
    ohlcv: FloatArray

    def between(self, first: float, last: float) -> list[tuple[int, list[float]]]:
        """Return the bars that start within [first, last]."""
        chosen = slice(*np.searchsorted(self.start, [first, np.nextafter(last, np.inf)]))
        return list(zip(self.start[chosen].tolist(), self.ohlcv[chosen].tolist(), strict=True))

    def newest(self, count: int, last: float) -> list[tuple[int, list[float]]]:
        """Return the last bars that start no later than last."""
        stop = np.searchsorted(self.start, last, side="right")
        chosen = slice(max(0, int(stop) - count), int(stop))
        return list(zip(self.start[chosen].tolist(), self.ohlcv[chosen].tolist(), strict=True))


@dataclass
class Double:
    """The bars and symbols of a service, and the faults that it is to show."""

    bars: dict[str, Served]  # by the service's own name of a symbol
    now: datetime
    key: tuple[str, str] = ("", "")  # that it accepts
    public_key: Any = None  # of coinbase's
    failures: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)  # by number of bars request
    answers: dict[int, Any] = field(default_factory=dict)  # instead of the bars of a request, by its number
    other_answer: Any = None  # to all that asks for no bars
    cut: frozenset[int] = frozenset()  # bars requests whose answer is broken off
    adjusted: float = 1.0  # yahoo: the adjusted close, as a share of the close
    hold_at: int | None = None  # this bars request is never answered
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)  # every path and query
    bars_asked: list[Query] = field(default_factory=list)
    url: str = ""

    @property
    def now_s(self) -> float:
        return self.now.timestamp()


@contextmanager
def serving(
    double: Double, route: Callable[[Double, str, Query, Mapping[str, str]], Answer]
) -> Iterator[Double]:
    """Run a double while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            double.asked.append(self.path)
            headers: dict[str, str] = {}
            missing = 0
            if is_bars_request(parts.path, query):
                number = len(double.bars_asked)
                double.bars_asked.append(query)
                if number == double.hold_at:
                    double.held.set()
                    double.released.wait(60)
                    return
                missing = 100 if number in double.cut else 0
                status, headers = double.failures.get(number, (0, {}))
                content: Any = {"message": f"planned failure {status}"}
                if number in double.answers:
                    status, content = 200, double.answers[number]
                elif not status:
                    status, content = route(double, parts.path, query, dict(self.headers))
            elif double.other_answer is not None:
                status, content = 200, double.other_answer
            else:
                status, content = route(double, parts.path, query, dict(self.headers))
            body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body) + missing)}.items():
                self.send_header(name, value)
            is_page = isinstance(content, str) and content.startswith("<")
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def is_bars_request(path: str, query: Query) -> bool:
    """Return whether a request asks for bars, and not for symbols or their description."""
    chart = "/finance/chart/" in path and "period1" in query
    return chart or path.endswith(("/klines", "/OHLC", "/candles", "/stocks/bars", "/us/bars"))


@cache
def read_bars(path: Path, *, local_days: bool = False) -> Served:
    """Read a file of real bars; local_days stamps daily ones at midnight in New York."""
    frame = pd.read_parquet(path)
    stamps = pd.DatetimeIndex(frame["timestamp"])
    if local_days:
        stamps = stamps.tz_localize(None).tz_localize(NEW_YORK)
    seconds = stamps.tz_convert("UTC").as_unit("ns").asi8 // SECOND_NS
    return Served(seconds, frame[["open", "high", "low", "close", "volume"]].to_numpy(dtype=np.float64))


def binance(double: Double, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
    """Answer as https://api.binance.com does."""
    if path == "/api/v3/exchangeInfo":
        return 200, {"timezone": "UTC", "symbols": [_binance_market(name) for name in double.bars]}
    if path != "/api/v3/klines":
        return 404, {"code": -1, "msg": f"no {path}"}
    if query["symbol"] not in double.bars:
        return 400, {"code": -1121, "msg": "Invalid symbol."}
    first = int(query.get("startTime", 0)) / 1000
    last = min(int(query.get("endTime", 10**15)) / 1000, double.now_s)
    limit = min(int(query.get("limit", 500)), 1000)
    length = _seconds(query["interval"])
    rows = double.bars[query["symbol"]].between(first, last)[:limit]
    return 200, [
        [t * 1000, *map(repr, row), (t + length) * 1000 - 1, "0", 1, "0", "0", "0"] for t, row in rows
    ]


def _binance_market(name: str) -> dict[str, Any]:
    base, quote = name[:-4], name[-4:]
    market = {"symbol": name, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "filters": []}
    return {**market, "isSpotTradingAllowed": True, "permissions": ["SPOT"], "orderTypes": ["LIMIT"]}


def kraken(double: Double, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
    """Answer as https://api.kraken.com does: the newest 720 rows, the last of them still open."""
    if path == "/0/public/Assets":
        assets = {"XXBT": {"altname": "XBT"}, "ZUSD": {"altname": "USD"}}
        wanted = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
        return 200, {"error": [], "result": {name: {**each, **wanted} for name, each in assets.items()}}
    if path == "/0/public/AssetPairs":
        pair = {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "status": "online"}
        rest = {"pair_decimals": 1, "lot_decimals": 8, "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]]}
        return 200, {"error": [], "result": {"XXBTZUSD": {**pair, **rest, "ordermin": "0.0001"}}}
    if path != "/0/public/OHLC" or query["pair"] not in double.bars:
        return 200, {"error": ["EQuery:Unknown asset pair"]}
    since = int(query.get("since", 0))
    newest = double.bars[query["pair"]].newest(720, double.now_s)
    rows = [[t, *map(repr, row[:4]), "0", repr(row[4]), 1] for t, row in newest if t > since]
    return 200, {"error": [], "result": {query["pair"]: rows, "last": newest[-1][0]}}


def coinbase(double: Double, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
    """Answer as https://api.coinbase.com does: at most 300 candles, the newest first."""
    keyed, public = "/api/v3/brokerage/products", "/api/v3/brokerage/market/products"
    if path.startswith("/v2/"):
        return 200, {"data": {"currency": "USD", "rates": {}} if "rates" in path else []}
    if path.startswith(keyed) and not _signed(double, headers):
        return 401, "Unauthorized"
    if path in (keyed, public):
        listed = [] if query.get("product_type") == "FUTURE" else list(double.bars)
        return 200, {"products": [_coinbase_product(name) for name in listed], "num_products": len(listed)}
    name = path.split("/")[-2]
    if name not in double.bars:
        return 404, {"error": "NOT_FOUND", "message": "valid product_id is required"}
    first, last = int(query["start"]), int(query["end"])
    # ccxt asks for 300 steps, both ends included, which Coinbase lets pass.
    if (last - first) // GRANULARITY_S[query["granularity"]] > 300:
        return 400, {
            "error": "INVALID_ARGUMENT",
            "message": "number of candles requested should be less than 300",
        }
    names = ("open", "high", "low", "close", "volume")
    rows = double.bars[name].between(first, min(last, double.now_s))[::-1]
    return 200, {
        "candles": [{"start": str(t), **dict(zip(names, map(repr, row), strict=True))} for t, row in rows]
    }


GRANULARITY_S = {"ONE_MINUTE": 60, "FIVE_MINUTE": 300, "ONE_HOUR": 3600, "SIX_HOUR": 21600, "ONE_DAY": 86400}


def _coinbase_product(name: str) -> dict[str, Any]:
    base, quote = name.split("-")
    sizes = {"base_increment": "0.00000001", "quote_increment": "0.01", "base_min_size": "0.00000001"}
    sizes |= {"quote_min_size": "1", "quote_max_size": "1000", "base_max_size": "1000", "price": "1"}
    shown = {"product_id": name, "base_currency_id": base, "quote_currency_id": quote, "status": "online"}
    return {**shown, **sizes, "product_type": "SPOT", "trading_disabled": False}


def _signed(double: Double, headers: Mapping[str, str]) -> bool:
    """Return whether a request bears a token signed with the right key."""
    try:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        content = jwt.decode(token, double.public_key, algorithms=["ES256"])
    except jwt.PyJWTError:
        return False
    return bool(content["sub"] == double.key[0])


def alpaca(double: Double, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
    """Answer as https://data.alpaca.markets does: 10,000 bars a page, the next one by its token."""
    stocks = path.startswith("/v2/stocks")
    given = (headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY"))
    if stocks and given != double.key:
        return 403, {"message": "forbidden."}
    if stocks and query.get("feed") == "sip":
        return 403, {"message": "subscription does not permit querying recent SIP data"}
    known = [name for name in query["symbols"].split(",") if name in double.bars]
    if path.endswith("latest") or path.endswith("latest/bars"):
        return 200, {
            "bars": {name: _alpaca_bar(*double.bars[name].newest(1, double.now_s)[0]) for name in known}
        }
    if not known:
        return 200, {"bars": {}, "next_page_token": None}
    start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start", "end"))
    rows = double.bars[known[0]].between(start, min(end, double.now_s))
    first, limit = int(query.get("page_token", 0)), min(int(query.get("limit", 1000)), 10_000)
    token = str(first + limit) if first + limit < len(rows) else None
    bars = [_alpaca_bar(*row) for row in rows[first : first + limit]]
    return 200, {"bars": {known[0]: bars}, "next_page_token": token}


def _alpaca_bar(start: int, row: list[float]) -> dict[str, Any]:
    stamp = datetime.fromtimestamp(start, UTC)
    return {"t": f"{stamp:%Y-%m-%dT%H:%M:%SZ}", **dict(zip("ohlcv", row, strict=True)), "n": 1, "vw": row[3]}


def _seconds(timeframe: str) -> int:
    return int(timeframe[:-1]) * SECONDS[timeframe[-1]]
