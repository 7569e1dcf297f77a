"""Downloaded bars on disk: one Parquet file a symbol and a manifest beside it."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from optimize import clock
from optimize.data.bars import RawBars, make_bars, utc_text
from optimize.data.clients.protocol import Download
from optimize.data.durable import sync
from optimize.data.quality.calendar_verdict import infer_calendar
from optimize.data.quality.sessions import gaps_of
from optimize.data.sessions import session_table
from optimize.data.sources.files import read_file
from optimize.data.spec import COLUMNS, DataSpec
from optimize.data.synthetic import DEFAULT_TIMEFRAME
from optimize.errors import BadInputError, require
from optimize.hashing import hash_file

TOLD_GAPS = 20
LOOKS = 3  # at a file and its manifest, which another process may be renaming
LOOK_AGAIN_S = 0.2
MIN_BARS = 2
PLAIN_SYMBOL = re.compile(r"[A-Za-z0-9_/.-]+")
PRICES = COLUMNS[1:6]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a stored file; times are UTC."""

    provider: str
    shelf: list[str]  # the exchange, or the feed and adjustment
    symbol: str
    timeframe: str
    asked_from: str  # the download began here; the first bar may be later
    first: str  # start of the first bar
    last: str  # start of the last bar
    rows: int
    calendar: str | None  # as the bars show it; null: they are too few or older than it
    gaps: int | None  # of the calendar's open time
    missing_bars: int | None
    first_gaps: list[dict[str, Any]]
    sha256: str  # of the Parquet file
    fetched_at: str


def source_timeframe(spec: DataSpec) -> str:
    """Return the timeframe of the downloaded bars, from which data.timeframe is made."""
    return spec.source_timeframe or spec.timeframe or DEFAULT_TIMEFRAME


def stored_path(spec: DataSpec, download: Download, symbol: str) -> Path:
    """Return where a symbol's bars are kept."""
    plain = quote(symbol.replace("/", "-").replace(":", "_"), safe="^=")
    folder = Path(spec.folder).joinpath(spec.provider, *download.shelf(spec, symbol))
    return folder / f"{plain}_{source_timeframe(spec)}.parquet"


def stored_files(spec: DataSpec, download: Download) -> dict[str, Path]:
    """Return the file of each symbol; where one was not downloaded yet, say how it is."""
    require(bool(spec.symbols), "data.symbols", spec.symbols, f"given with data.provider={spec.provider}")
    paths = {symbol: stored_path(spec, download, symbol) for symbol in spec.symbols}
    absent = [symbol for symbol, path in paths.items() if not is_stored(path)]
    if absent:
        raise BadInputError(
            f"{', '.join(absent)}: no {source_timeframe(spec)} bars of data.provider={spec.provider} are in "
            f"{paths[absent[0]].parent}; download them first: {command(spec)}"
        )
    return paths


def read_stored(spec: DataSpec, download: Download) -> list[RawBars]:
    """Read the stored bars of every symbol, refusing a file that is not as it was written."""
    files = stored_files(spec, download).items()
    return [
        stored_rows(path, symbol, source_timeframe(spec), drop_nan=spec.drop_nan) for symbol, path in files
    ]


def stored_rows(path: Path, symbol: str, timeframe: str, *, drop_nan: bool = False) -> RawBars:
    """Read the stored bars of one symbol, which another process may be replacing."""
    _, content = _vouched(path, symbol)
    return read_file(path, symbol, DataSpec(source_timeframe=timeframe, drop_nan=drop_nan), content)


def command(spec: DataSpec) -> str:
    """Return what to type to download what the spec names."""
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
    """Return whether a file and a manifest of it are there."""
    return path.is_file() and any(True for _ in _manifests(path))


def checked_manifest(path: Path, symbol: str) -> Manifest:
    """Return the manifest that fits the file's content; refuse a file that nothing vouches for."""
    manifest, _ = _vouched(path, symbol)
    return manifest


def _vouched(path: Path, symbol: str) -> tuple[Manifest, bytes]:
    """Return a file's content and the manifest of just that; refuse a file that nothing vouches for."""
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_AGAIN_S)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        for manifest in _manifests(path):
            if manifest.sha256 == digest and manifest.symbol == symbol:
                return manifest, content
    raise BadInputError(
        f"{path} is not the file that its manifest {path.with_suffix('.json').name} was written for (another "
        "SHA-256 or symbol): delete both and download again, or read it with data=file"
    )


def write_stored(path: Path, raw: RawBars, manifest: Manifest) -> None:
    """Put bars and their manifest in place of older ones; a kill at any moment leaves one of the two whole.

    The manifest waits under another name until its file is there. The caller holds the file's lock.
    """
    _settle(path)
    frame = pd.DataFrame(dict(zip(PRICES, raw.ohlcv.T, strict=True)))
    frame.insert(0, "timestamp", pd.DatetimeIndex(raw.timestamp, tz="UTC"))
    aside = path.with_name(f".{path.name}.aside")
    frame.to_parquet(aside, index=False)
    sync(aside)
    _write_text(_pending(path), json.dumps(asdict(replace(manifest, sha256=hash_file(aside))), indent=1))
    sync(path.parent)
    aside.replace(path)
    sync(path.parent)
    _pending(path).replace(path.with_suffix(".json"))
    sync(path.parent)


def _settle(path: Path) -> None:
    """Finish what a run began that was killed between its renames, before its manifest is written over."""
    waiting = _manifest(_pending(path))
    if waiting is not None and path.is_file() and waiting.sha256 == hash_file(path):
        _pending(path).replace(path.with_suffix(".json"))
        sync(path.parent)


def describe_stored(spec: DataSpec, download: Download, raw: RawBars, asked_from_ns: int) -> Manifest:
    """Return the manifest of bars that are about to be stored, but for their hash."""
    return Manifest(
        provider=spec.provider,
        shelf=list(download.shelf(spec, raw.symbol)),
        symbol=raw.symbol,
        timeframe=source_timeframe(spec),
        asked_from=utc_text(asked_from_ns),
        first=utc_text(raw.timestamp[0]),
        last=utc_text(raw.timestamp[-1]),
        rows=len(raw.timestamp),
        **_gaps(raw),
        sha256="",
        fetched_at=clock.now().isoformat(timespec="seconds"),
    )


def _gaps(raw: RawBars) -> dict[str, Any]:
    """Return the calendar that the bars show and the gaps in its open time."""
    unknown: dict[str, Any] = {"calendar": None, "gaps": None, "missing_bars": None, "first_gaps": []}
    if len(raw.timestamp) < MIN_BARS:
        return unknown
    bars = make_bars(raw)
    try:
        table = session_table(infer_calendar(bars), int(bars.bar_end[0]), int(bars.bar_end[-1]))
    except BadInputError:  # the calendar begins later than the bars, which is no reason not to keep them
        return unknown
    found = gaps_of(bars, table)
    spans = zip(found.before, found.after, found.bars, strict=True)
    told = [
        {"after": utc_text(before), "before": utc_text(after), "bars": int(count)}
        for before, after, count in islice(spans, TOLD_GAPS)
    ]
    return {
        "calendar": table.calendar,
        "gaps": len(found.before),
        "missing_bars": int(found.bars.sum()),
        "first_gaps": told,
    }


def stamp_of(text: str) -> int:
    """Return UTC nanoseconds of a manifest's time."""
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def _manifests(path: Path) -> Iterator[Manifest]:
    """Yield the readable manifests of a file.

    A run that was killed between its two renames left that of the new file under another name.
    """
    found = (_manifest(candidate) for candidate in (path.with_suffix(".json"), _pending(path)))
    yield from (manifest for manifest in found if manifest is not None)


def _manifest(path: Path) -> Manifest | None:
    """Return a manifest, None where it is absent or torn."""
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _pending(path: Path) -> Path:
    """Return where a manifest waits for its file to be renamed."""
    return path.with_name(f".{path.stem}.json.pending")


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
