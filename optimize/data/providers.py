"""Where bars can come from: one registry line a provider."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

from optimize.data.bars import Bars, RawBars, join_bars, make_bars
from optimize.data.clients.alpaca import ALPACA
from optimize.data.clients.coinbase import COINBASE
from optimize.data.clients.exchange import EXCHANGE
from optimize.data.clients.protocol import Download
from optimize.data.clients.yahoo import YAHOO
from optimize.data.quality.findings import judge, refuse
from optimize.data.quality.rows import row_findings
from optimize.data.sources.files import read_file, read_files, symbol_files
from optimize.data.spec import DataSpec
from optimize.data.store import read_stored, stored_files
from optimize.data.synthetic import make_synthetic
from optimize.errors import require

EMBEDDED_SYMBOL = "EURUSD"
EVERY_KEY = frozenset(  # of DataSpec: read whatever the provider
    {"provider", "symbols", "timeframe", "start", "end", "months", "zero_volume", "check", "max_age"}
    | {"max_gap_days", "severity"}
)
DOWNLOAD_KEYS = frozenset({"exchange", "feed", "adjustment", "folder", "refresh"})
FILE_KEYS = frozenset(each.name for each in fields(DataSpec)) - EVERY_KEY - DOWNLOAD_KEYS - {"synthetic"}
EMBEDDED_FILE = "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv"


@dataclass(frozen=True)
class Provider:
    """A source of bars, and the files they are read from, which key the cache."""

    read: Callable[[DataSpec], list[RawBars]]  # one a symbol, unchecked
    files: Callable[[DataSpec], dict[str, Path]]  # symbol -> file; empty: made from the spec alone
    reads: frozenset[str]  # keys of DataSpec that it reads beside those of every provider
    download: Download | None = None  # how walkforge data gets the files; no other verb does

    def load(self, spec: DataSpec) -> Bars:
        """Read, check and join the bars of every symbol; rows that no market can be made of are refused."""
        parts = self.read(spec)
        refuse(judge([found for raw in parts for found in row_findings(raw)], spec.severity))
        return join_bars([make_bars(raw, spec.zero_volume) for raw in parts])


def embedded_files(spec: DataSpec) -> dict[str, Path]:
    """Return the EURUSD 1h ask prices of 2017 that gym-anytrading installs."""
    allowed = f"[] or [{EMBEDDED_SYMBOL}] with data.provider=embedded (data.provider=file reads your own)"
    require(spec.symbols in ([], [EMBEDDED_SYMBOL]), "data.symbols", spec.symbols, allowed)
    # Located through the package's metadata: importing it would parse all its data sets.
    return {EMBEDDED_SYMBOL: Path(str(distribution("gym-anytrading").locate_file(EMBEDDED_FILE)))}


def read_embedded(spec: DataSpec) -> list[RawBars]:
    """Read the embedded data set; its stamps are UTC."""
    (path,) = embedded_files(spec).values()
    plain = replace(spec, time_zone="UTC", time_format=None, columns={}, source_timeframe="1h")
    return [read_file(path, EMBEDDED_SYMBOL, plain)]


def downloaded(download: Download, *keys: str) -> Provider:
    """Return the provider that reads what was downloaded, and the keys of its own."""
    read, files = partial(read_stored, download=download), partial(stored_files, download=download)
    reads = frozenset({"source_timeframe", "folder", "refresh", "drop_nan", *keys})
    return Provider(read, files, reads, download)


PROVIDERS: dict[str, Provider] = {
    "embedded": Provider(read_embedded, embedded_files, frozenset()),
    "file": Provider(read_files, symbol_files, FILE_KEYS),
    "synthetic": Provider(make_synthetic, lambda spec: {}, frozenset({"source_timeframe", "synthetic"})),
    "yfinance": downloaded(YAHOO, "adjustment"),
    "ccxt": downloaded(EXCHANGE, "exchange"),
    "alpaca": downloaded(ALPACA, "feed", "adjustment"),
    "coinbase": downloaded(COINBASE),
}


def provider_of(spec: DataSpec) -> Provider:
    """Return the provider that the spec names."""
    require(spec.provider in PROVIDERS, "data.provider", spec.provider, "one of " + ", ".join(PROVIDERS))
    return PROVIDERS[spec.provider]
