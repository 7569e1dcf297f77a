"""Bars from Yahoo Finance through yfinance, without a key."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from optimize.data.sources.clients.access import find_address, import_extra, masked_line
from optimize.data.sources.clients.connection import ACCESS_REFUSED, TIMEOUT_S, Connection
from optimize.data.sources.clients.protocol import DownloadSource, HistoryLimit, Page, WaitNotice, make_page
from optimize.data.sources.clients.retry import BusyError
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, SECOND_NS
from optimize.errors import BadInputError, require

REACH_DAYS = {"1m": 8, "5m": 60, "15m": 60, "30m": 60, "1h": 730, "1d": None}
PAGE_DAYS = {"1m": 4, "5m": 30, "15m": 30, "30m": 30, "1h": 180, "1d": 3650}
AUTO_ADJUST = {"split": False, "all": True}  # values of yfinance's auto_adjust
FRAME_COLUMNS = ["Open", "High", "Low", "Close", "Volume"]
CHART = "/v8/finance/chart/"
NOTHING_THERE = ("no price data found", "Data doesn't exist")  # messages for a span before the first bar
NOT_FOUND = 404


class YahooClient:
    """Client of yfinance with a session that stores Yahoo's last answer."""

    name = "yfinance"
    timeframes = tuple(REACH_DAYS)

    def __init__(self, spec: DataSpec, notice: WaitNotice) -> None:
        allowed = "split or all with data.provider=yfinance: Yahoo gives no prices before splits"
        require(spec.adjustment in AUTO_ADJUST, "data.adjustment", spec.adjustment, allowed, AUTO_ADJUST)
        self._yfinance = import_extra("yfinance", "yfinance", "yfinance")
        curl = import_extra("yfinance", "curl_cffi", "curl_cffi.requests")
        # yfinance logs each failure in addition to raising it; our error already contains it.
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)
        self._yfinance.config.debug.hide_exceptions = False
        self._auto_adjust = AUTO_ADJUST[spec.adjustment]
        self._connection = Connection(self.name, notice, self._explain)
        self._session = _remembering(curl, find_address("yfinance"), self._connection.remember)

    def restates(self, symbol: str) -> bool:
        """Return True: a split or dividend changes all earlier prices."""
        return True

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        """Return Yahoo's limit on intraday bars; daily bars have none."""
        days = REACH_DAYS[timeframe]
        if days is None:
            return None
        # The oldest day is left out, because Yahoo's clock decides whether it is still available.
        said = f"Yahoo serves {timeframe} bars of the last {days} days only"
        return HistoryLimit((days - 1) * DAY_NS, said, "choose another data.provider")

    def check(self, symbols: Sequence[str]) -> None:
        """Request the last days of every symbol; refuse unknown symbols."""
        for symbol in symbols:
            try:
                self._connection.ask(partial(self._history, symbol, interval="1d", period="5d"))
            except self._yfinance.exceptions.YFTickerMissingError as error:
                if _is_empty(error):  # a known symbol without recent trades
                    continue
                raise BadInputError(
                    f"data.symbols: Yahoo has no prices of {symbol!r} (written like SPY, BRK-B, EURUSD=X, "
                    f"BTC-USD, ^GSPC; finance.yahoo.com finds the others): {masked_line(error.rationale)}"
                ) from None

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield spans of some days, oldest first."""
        span_ns = PAGE_DAYS[timeframe] * DAY_NS
        for first_ns in range(start_ns, end_ns, span_ns):
            until_ns = min(first_ns + span_ns, end_ns)
            span = {"start": _moment(first_ns), "end": _moment(until_ns)}  # the end is exclusive
            frame = self._span(symbol, partial(self._history, symbol, interval=timeframe, **span))
            stamps = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ns").asi8
            rows = frame[FRAME_COLUMNS].to_numpy(dtype=np.float64)
            yield make_page(stamps, rows, until_ns)

    def _span(self, symbol: str, history: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return the bars of a span, an empty frame if Yahoo has none; raise any other refusal."""
        try:
            return self._connection.ask(history)
        except self._yfinance.exceptions.YFTickerMissingError as error:
            if _is_empty(error):
                return pd.DataFrame(columns=FRAME_COLUMNS, index=pd.DatetimeIndex([], tz="UTC"))
            raise BadInputError(f"Yahoo refuses {symbol}: {masked_line(error.rationale)}") from None

    def _history(self, symbol: str, **span: Any) -> pd.DataFrame:
        """Return yfinance's frame of a span."""
        # yfinance caches every answer, failed ones included.
        self._yfinance.data.YfData.cache_get.cache_clear()
        ticker = self._yfinance.Ticker(symbol, session=self._session)
        with warnings.catch_warnings():
            # yfinance 1.7 calls pandas in ways that pandas 3.1 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            frame: pd.DataFrame = ticker.history(
                auto_adjust=self._auto_adjust, actions=False, timeout=TIMEOUT_S, **span
            )
        return frame

    def _explain(self, error: Exception, status: int | None) -> Exception | None:
        """Translate an error of yfinance; errors on a symbol are left to the caller."""
        if isinstance(error, self._yfinance.exceptions.YFRateLimitError):
            return BusyError(error)
        if status in ACCESS_REFUSED:
            return BadInputError(
                f"Yahoo refuses access (HTTP {status}), for which walkforge sends no key: try again "
                "later or from another address, or choose another data.provider"
            )
        chart = _chart(self._connection.json)
        if isinstance(error, self._yfinance.exceptions.YFTickerMissingError):
            return self._connection.unreadable(error) if chart is None else error
        if status == NOT_FOUND and chart is not None:  # yfinance failed in its fallback search for the symbol
            reason = chart["error"]["description"]
            unknown: Exception = self._yfinance.exceptions.YFTickerMissingError("", reason)
            return unknown
        return None


def _remembering(curl: Any, address: str | None, remember: Callable[[Any], None]) -> Any:
    """Return a session like yfinance's own that passes answers of the chart service to `remember`.

    yfinance exposes neither status nor headers. With an address, requests go there instead of to Yahoo.
    """

    class Remembering(curl.Session):  # type: ignore[misc]  # curl_cffi is imported lazily
        """Session that passes on the answers of the chart service."""

        def request(self, method: str, url: str, *arguments: Any, **settings: Any) -> Any:
            """Send a request, to the other address if there is one."""
            if address is not None:
                parts = urlsplit(url)
                url = address + parts.path + (f"?{parts.query}" if parts.query else "")
            is_chart = CHART in url
            if is_chart:
                remember(None)
            response = super().request(method, url, *arguments, **settings)
            if is_chart:
                remember(response)
            return response

    return Remembering(impersonate="chrome")


def _chart(answer: Any) -> dict[str, Any] | None:
    """Return the chart service's result or described error; None for any other JSON."""
    chart = answer.get("chart") if isinstance(answer, dict) else None
    if not isinstance(chart, dict):
        return None
    result, error = chart.get("result"), chart.get("error")
    refused = isinstance(error, dict) and "description" in error
    given = isinstance(result, list) and result and isinstance(result[0], dict) and "meta" in result[0]
    return chart if refused or given else None


def _is_empty(error: Exception) -> bool:
    """Return whether Yahoo knows the symbol but has no prices in the span."""
    return any(text in str(error) for text in NOTHING_THERE)


def _moment(stamp_ns: int) -> datetime:
    return datetime.fromtimestamp(stamp_ns // SECOND_NS, UTC)


def _shelf(spec: DataSpec, symbol: str) -> tuple[str, ...]:
    """Return a folder per adjustment, whose prices must not be mixed."""
    return (spec.adjustment,)


YAHOO = DownloadSource(YahooClient, _shelf)
