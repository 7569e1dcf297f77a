"""What a market-data client is: it is asked for a span of bars and yields them page by page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.spec import DataSpec

Notice = Callable[[str], None]  # told of each wait


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Bars of one symbol in ascending order, as one request gave them."""

    timestamp: IntArray  # (R,) UTC nanoseconds, start of the bar
    ohlcv: FloatArray  # (R, 5)
    end_ns: int  # no bar that starts before this is still to come


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back from now a source serves."""

    span_ns: int
    said: str  # "kraken serves only the newest 720 bars"
    remedy: str  # what to do about it, beside asking for less or for coarser bars


class Client(Protocol):
    """A source of bars; check and pages ask over the network."""

    @property
    def name(self) -> str:
        """Return what a user knows the source by, such as "ccxt binance"."""

    @property
    def timeframes(self) -> Sequence[str]:
        """Return the timeframes that it serves."""

    def restates(self, symbol: str) -> bool:
        """Return whether earlier prices change with a later split or dividend."""

    def reach(self, timeframe: str) -> Reach | None:
        """Return how far back bars of a timeframe are served, None where there is no limit."""

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse symbols that the source does not know, before anything is downloaded."""

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        """Yield the bars that start within [start_ns, end_ns); a page may hold more, or none."""


@dataclass(frozen=True)
class Download:
    """How a provider's bars are downloaded, and what tells its files apart."""

    connect: Callable[[DataSpec, Notice], Client]
    shelf: Callable[[DataSpec, str], tuple[str, ...]]  # folders of a symbol's file, below the provider's


def make_page(timestamp: IntArray, ohlcv: FloatArray, end_ns: int) -> Page:
    """Return a page of rows in any order, sorted by their stamps, each stamp once."""
    stamps, first = np.unique(timestamp, return_index=True)
    return Page(stamps, ohlcv[first], end_ns)
