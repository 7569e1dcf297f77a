"""Registry of data providers: one line each."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from optimize.data.bars import RawBars
from optimize.data.sources.clients.alpaca import ALPACA
from optimize.data.sources.clients.coinbase import COINBASE
from optimize.data.sources.clients.exchange import EXCHANGE
from optimize.data.sources.clients.protocol import DownloadSource
from optimize.data.sources.clients.yahoo import YAHOO
from optimize.data.sources.downloaded import read_stored, stored_files
from optimize.data.sources.files.read import read_bars_file, read_bars_files, symbol_files
from optimize.data.sources.synthetic import make_synthetic
from optimize.data.spec import EMBEDDED_FILE, EMBEDDED_SYMBOL, DataSpec
from optimize.errors import require

SHARED_KEYS = frozenset(  # of DataSpec: read whatever the provider
    {"provider", "symbols", "timeframe", "start", "end", "months", "zero_volume", "check", "max_age"}
    | {"max_gap_days", "severity"}
)
DOWNLOAD_KEYS = frozenset({"exchange", "feed", "adjustment", "folder", "refresh"})
FILE_KEYS = frozenset(each.name for each in fields(DataSpec)) - SHARED_KEYS - DOWNLOAD_KEYS - {"synthetic"}


@dataclass(frozen=True)
class Provider:
    """A source of bars, and the files it reads, whose content is part of the cache key."""

    read: Callable[[DataSpec], list[RawBars]]  # unchecked rows of each symbol
    files: Callable[[DataSpec], dict[str, Path]]  # symbol -> file; empty: generated from the spec alone
    reads: frozenset[str]  # keys of DataSpec it reads in addition to SHARED_KEYS
    download: DownloadSource | None = (
        None  # how `walkforge data` downloads the files; no other verb downloads
    )


def embedded_files(spec: DataSpec) -> dict[str, Path]:
    """Return the file of EURUSD 1h ask prices of 2017 installed with gym-anytrading."""
    allowed = f"[] or [{EMBEDDED_SYMBOL}] with data.provider=embedded (data.provider=file reads your own)"
    require(spec.symbols in ([], [EMBEDDED_SYMBOL]), "data.symbols", spec.symbols, allowed)
    # Located through the package's metadata: importing it would parse all its data sets.
    return {EMBEDDED_SYMBOL: Path(str(distribution("gym-anytrading").locate_file(EMBEDDED_FILE)))}


def read_embedded(spec: DataSpec) -> list[RawBars]:
    """Read the embedded data set; its timestamps are UTC."""
    (path,) = embedded_files(spec).values()
    plain = replace(spec, time_zone="UTC", time_format=None, columns={}, source_timeframe="1h")
    return [read_bars_file(path, EMBEDDED_SYMBOL, plain)]


def downloaded(download: DownloadSource, *keys: str) -> Provider:
    """Return the provider of downloaded bars; keys are the settings of its own."""
    read, files = partial(read_stored, download=download), partial(stored_files, download=download)
    reads = frozenset({"source_timeframe", "folder", "refresh", "drop_nan", *keys})
    return Provider(read, files, reads, download)


PROVIDERS: dict[str, Provider] = {
    "embedded": Provider(read_embedded, embedded_files, frozenset()),
    "file": Provider(read_bars_files, symbol_files, FILE_KEYS),
    "synthetic": Provider(make_synthetic, lambda spec: {}, frozenset({"source_timeframe", "synthetic"})),
    "yfinance": downloaded(YAHOO, "adjustment"),
    "ccxt": downloaded(EXCHANGE, "exchange"),
    "alpaca": downloaded(ALPACA, "feed", "adjustment"),
    "coinbase": downloaded(COINBASE),
}


def provider_of(spec: DataSpec) -> Provider:
    """Return the provider of a spec."""
    require(
        spec.provider in PROVIDERS,
        "data.provider",
        spec.provider,
        "one of " + ", ".join(PROVIDERS),
        PROVIDERS,
    )
    return PROVIDERS[spec.provider]
