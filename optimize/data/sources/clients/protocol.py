"""Interface of a market-data client: it yields the bars of a span page by page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.spec import DataSpec

WaitNotice = Callable[[str], None]  # called with the reason of each wait


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Bars of one symbol in ascending order, from one request."""

    timestamp: IntArray  # (R,) UTC nanoseconds, start of the bar
    ohlcv: FloatArray  # (R, 5)
    end_ns: int  # all bars that start before this have been returned


@dataclass(frozen=True, slots=True)
class HistoryLimit:
    """Limit on the age of bars that a source provides."""

    span_ns: int
    statement: str  # "kraken serves only the newest 720 bars"
    remedy: str  # alternatives to requesting fewer or coarser bars


class Client(Protocol):
    """A source of bars; check and pages use the network."""

    @property
    def name(self) -> str:
        """Return the name shown to users, such as "ccxt binance"."""

    @property
    def timeframes(self) -> Sequence[str]:
        """Return the timeframes that the source provides."""

    def restates(self, symbol: str) -> bool:
        """Return whether a later split or dividend changes earlier prices."""

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        """Return the limit on the age of bars of a timeframe; None if there is none."""

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse unknown symbols before anything is downloaded."""

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield the bars that start within [start_ns, end_ns); a page may contain others too, or none."""


@dataclass(frozen=True)
class DownloadSource:
    """Client factory of a provider, and the folders that keep its files apart."""

    connect: Callable[[DataSpec, WaitNotice], Client]
    shelf: Callable[[DataSpec, str], tuple[str, ...]]  # folders of a symbol's file, below the provider's


def make_page(timestamp: IntArray, ohlcv: FloatArray, end_ns: int) -> Page:
    """Return a page from rows in any order: sorted, one row per bar start."""
    stamps, first = np.unique(timestamp, return_index=True)
    return Page(stamps, ohlcv[first], end_ns)
