"""Downloaded bars on disk: one Parquet file a symbol and a manifest beside it."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from optimize.data.bars import RawBars
from optimize.data.sources.clients.protocol import DownloadSource
from optimize.data.sources.files.read import read_bars_file
from optimize.data.sources.synthetic import DEFAULT_TIMEFRAME
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError, require
from optimize.retry import call_with_retries

LOOKS = 3  # reads of a file and its manifest, which another process may be renaming
LOOK_AGAIN_S = 0.2
PLAIN_SYMBOL = re.compile(r"[A-Za-z0-9_/.-]+")


@dataclass(frozen=True, slots=True)
class DownloadManifest:
    """Manifest of a stored file of downloaded bars; times are UTC."""

    provider: str
    shelf: list[str]  # folders below the provider's: the exchange, or the feed and adjustment
    symbol: str
    timeframe: str
    asked_from: str  # requested start; the first bar may be later
    first: str  # start of the first bar
    last: str  # start of the last bar
    rows: int
    calendar: str | None  # inferred from the bars; null: too few bars, or older than the calendar
    gaps: int | None  # in the calendar's open time
    missing_bars: int | None
    first_gaps: list[dict[str, Any]]
    sha256: str  # of the Parquet file
    fetched_at: str


def source_timeframe(spec: DataSpec) -> str:
    """Return the timeframe of the downloaded bars, which are resampled to data.timeframe."""
    return spec.source_timeframe or spec.timeframe or DEFAULT_TIMEFRAME


def stored_path(spec: DataSpec, download: DownloadSource, symbol: str) -> Path:
    """Return the path of a symbol's stored bars."""
    plain = quote(symbol.replace("/", "-").replace(":", "_"), safe="^=")
    folder = Path(spec.folder).joinpath(spec.provider, *download.shelf(spec, symbol))
    return folder / f"{plain}_{source_timeframe(spec)}.parquet"


def stored_files(spec: DataSpec, download: DownloadSource) -> dict[str, Path]:
    """Return the file of each symbol; refuse a missing one with the command that downloads it."""
    require(bool(spec.symbols), "data.symbols", spec.symbols, f"given with data.provider={spec.provider}")
    paths = {symbol: stored_path(spec, download, symbol) for symbol in spec.symbols}
    absent = [symbol for symbol, path in paths.items() if not is_stored(path)]
    if absent:
        raise BadInputError(
            f"{', '.join(absent)}: no {source_timeframe(spec)} bars of data.provider={spec.provider} are in "
            f"{paths[absent[0]].parent}; download them first: {download_command(spec)}"
        )
    return paths


def read_stored(spec: DataSpec, download: DownloadSource) -> list[RawBars]:
    """Read the stored bars of every symbol; refuse a file that was changed since it was written."""
    files = stored_files(spec, download).items()
    return [
        stored_rows(path, symbol, source_timeframe(spec), drop_nan=spec.drop_nan) for symbol, path in files
    ]


def stored_rows(path: Path, symbol: str, timeframe: str, *, drop_nan: bool = False) -> RawBars:
    """Read the stored bars of one symbol, even while another process replaces them."""
    _, content = _vouched(path, symbol)
    return read_bars_file(path, symbol, DataSpec(source_timeframe=timeframe, drop_nan=drop_nan), content)


def download_command(spec: DataSpec) -> str:
    """Return the command that downloads the bars of a spec."""
    named = [name if PLAIN_SYMBOL.fullmatch(name) else f'"{name}"' for name in spec.symbols]
    words = [f"data={spec.provider}"]
    words += [f"data.exchange={spec.exchange}"] if spec.provider == "ccxt" else []
    words += [f"data.feed={spec.feed}"] if spec.provider == "alpaca" else []
    words += [f"data.adjustment={spec.adjustment}"] if spec.provider in ("alpaca", "yfinance") else []
    words += [f"'data.symbols=[{','.join(named)}]'", f"data.timeframe={source_timeframe(spec)}"]
    words += ["data.months=null" if spec.months is None else f"data.months={spec.months}"]
    words += [f"data.{key}={date}" for key, date in (("start", spec.start), ("end", spec.end)) if date]
    words += [] if spec.folder == DataSpec().folder else [f"data.folder='\"{spec.folder}\"'"]
    return " ".join(["walkforge data", *words])


def is_stored(path: Path) -> bool:
    """Return whether a file and a manifest of it exist."""
    return path.is_file() and any(True for _ in _manifests(path))


def checked_manifest(path: Path, symbol: str) -> DownloadManifest:
    """Return the manifest whose checksum matches the file; refuse a file without one."""
    manifest, _ = _vouched(path, symbol)
    return manifest


def _vouched(path: Path, symbol: str) -> tuple[DownloadManifest, bytes]:
    """Return a file's content and its manifest, which another process may be replacing."""
    return call_with_retries(
        lambda: _read_vouched(path, symbol),
        passes=lambda error: isinstance(error, BadInputError),
        wait_s=lambda error, tries: LOOK_AGAIN_S,
        gives_up=lambda failure: failure.tries >= LOOKS,
    )


def _read_vouched(path: Path, symbol: str) -> tuple[DownloadManifest, bytes]:
    """Return a file's content and its manifest; raise BadInputError if no manifest has its checksum."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for manifest in _manifests(path):
        if manifest.sha256 == digest and manifest.symbol == symbol:
            return manifest, content
    raise BadInputError(
        f"{path} is not the file that its manifest {path.with_suffix('.json').name} was written for (another "
        "SHA-256 or symbol): delete both and download again, or read it with data=file"
    )


def manifest_time_ns(text: str) -> int:
    """Return a manifest's time in UTC nanoseconds."""
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def _manifests(path: Path) -> Iterator[DownloadManifest]:
    """Yield the readable manifests of a file.

    A run killed between its two renames leaves the new file's manifest under its temporary name.
    """
    found = (
        read_download_manifest(candidate) for candidate in (path.with_suffix(".json"), pending_manifest(path))
    )
    yield from (manifest for manifest in found if manifest is not None)


def read_download_manifest(path: Path) -> DownloadManifest | None:
    """Return a manifest; None if it is missing or incomplete."""
    try:
        return DownloadManifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def pending_manifest(path: Path) -> Path:
    """Return the temporary path of a manifest whose data file is not yet in place."""
    return path.with_name(f".{path.stem}.json.pending")
