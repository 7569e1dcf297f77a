"""Write downloaded bars with their manifest; a kill at any moment leaves the old or the new version whole."""

import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from optimize import clock
from optimize.atomic import put_file, replacing, sync
from optimize.data.bars import RawBars, make_bars, utc_text
from optimize.data.quality.calendar_fit import infer_calendar
from optimize.data.quality.sessions import gaps_of
from optimize.data.sessions import session_table
from optimize.data.sources.clients.protocol import DownloadSource
from optimize.data.sources.downloaded import (
    DownloadManifest,
    pending_manifest,
    read_download_manifest,
    source_timeframe,
)
from optimize.data.spec import BAR_COLUMNS, DataSpec
from optimize.errors import BadInputError
from optimize.hashing import hash_file

LISTED_GAPS = 20
MIN_GAP_BARS = 2
PRICE_COLUMNS = BAR_COLUMNS[1:6]


def write_stored(path: Path, raw: RawBars, manifest: DownloadManifest) -> None:
    """Replace stored bars and their manifest; a kill at any moment leaves the old or the new pair usable.

    The manifest keeps a temporary name until its data file is in place. The caller holds the file's lock.
    """
    _settle(path)
    frame = pd.DataFrame(dict(zip(PRICE_COLUMNS, raw.ohlcv.T, strict=True)))
    frame.insert(0, "timestamp", pd.DatetimeIndex(raw.timestamp, tz="UTC"))
    pending = pending_manifest(path)
    with replacing(path, alone=True) as partial:
        frame.to_parquet(partial, index=False)
        described = replace(manifest, sha256=hash_file(partial))
        pending.write_text(json.dumps(asdict(described), indent=1) + "\n", encoding="utf-8")
        sync(pending)
        sync(path.parent)
    sync(path.parent)
    put_file(pending, path.with_suffix(".json"))
    sync(path.parent)


def _settle(path: Path) -> None:
    """Complete the renames of a run that was killed between them, before its manifest is overwritten."""
    waiting = read_download_manifest(pending_manifest(path))
    if waiting is not None and path.is_file() and waiting.sha256 == hash_file(path):
        put_file(pending_manifest(path), path.with_suffix(".json"))
        sync(path.parent)


def make_manifest(
    spec: DataSpec, download: DownloadSource, raw: RawBars, asked_from_ns: int
) -> DownloadManifest:
    """Return the manifest of bars to be stored; write_stored fills in the hash."""
    return DownloadManifest(
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
    """Return the manifest's entries on calendar and gaps: the inferred calendar and gaps in its open time."""
    unknown: dict[str, Any] = {"calendar": None, "gaps": None, "missing_bars": None, "first_gaps": []}
    if len(raw.timestamp) < MIN_GAP_BARS:
        return unknown
    bars = make_bars(raw)
    try:
        table = session_table(infer_calendar(bars), int(bars.bar_end[0]), int(bars.bar_end[-1]))
    except BadInputError:  # the calendar does not cover the bars; they are stored all the same
        return unknown
    found = gaps_of(bars, table)
    spans = zip(found.before, found.after, found.bars, strict=True)
    listed = [
        {"after": utc_text(before), "before": utc_text(after), "bars": int(count)}
        for before, after, count in islice(spans, LISTED_GAPS)
    ]
    return {
        "calendar": table.calendar,
        "gaps": len(found.before),
        "missing_bars": int(found.bars.sum()),
        "first_gaps": listed,
    }
