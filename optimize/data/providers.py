"""Where bars can come from: one registry line a provider."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path

from optimize.data.bars import Bars
from optimize.data.files import load_file, load_files, symbol_files
from optimize.data.spec import DataSpec
from optimize.data.synthetic import load_synthetic
from optimize.errors import require

EMBEDDED_SYMBOL = "EURUSD"
EMBEDDED_FILE = "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv"


@dataclass(frozen=True)
class Provider:
    """A source of bars, and the files they are read from, which key the cache."""

    load: Callable[[DataSpec], Bars]
    files: Callable[[DataSpec], dict[str, Path]]  # symbol -> file; empty: made from the spec alone


def embedded_files(spec: DataSpec) -> dict[str, Path]:
    """Return the EURUSD 1h ask prices of 2017 that gym-anytrading installs."""
    allowed = f"[] or [{EMBEDDED_SYMBOL}] with data.provider=embedded (data.provider=file reads your own)"
    require(spec.symbols in ([], [EMBEDDED_SYMBOL]), "data.symbols", spec.symbols, allowed)
    # Located through the package's metadata: importing it would parse all its data sets.
    return {EMBEDDED_SYMBOL: Path(str(distribution("gym-anytrading").locate_file(EMBEDDED_FILE)))}


def load_embedded(spec: DataSpec) -> Bars:
    """Load the embedded data set; its stamps are UTC."""
    (path,) = embedded_files(spec).values()
    plain = replace(spec, time_zone="UTC", time_format=None, columns={}, source_timeframe="1h")
    return load_file(path, EMBEDDED_SYMBOL, plain)


PROVIDERS: dict[str, Provider] = {
    "embedded": Provider(load_embedded, embedded_files),
    "file": Provider(load_files, symbol_files),
    "synthetic": Provider(load_synthetic, lambda spec: {}),
}


def provider_of(spec: DataSpec) -> Provider:
    """Return the provider that the spec names."""
    require(spec.provider in PROVIDERS, "data.provider", spec.provider, "one of " + ", ".join(PROVIDERS))
    return PROVIDERS[spec.provider]
