"""Download missing bars page by page into a journal, and merge them into the stored file at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from optimize import clock
from optimize.data.download.plan import RestatedError, SymbolDownload, fetch_span, whole_span
from optimize.data.download.progress import Meter, meter
from optimize.data.period import period_of
from optimize.data.quality.findings import pluralise
from optimize.data.sources.clients.protocol import Client, DownloadSource
from optimize.data.sources.downloaded import (
    DownloadManifest,
    checked_manifest,
    is_stored,
    source_timeframe,
    stored_path,
)
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, timeframe_ns
from optimize.errors import DownloadError, require


@dataclass(frozen=True)
class _Wanted:
    """A symbol's download, and whether any of its bars are missing."""

    job: SymbolDownload
    due: bool


def download_bars(spec: DataSpec, say: Callable[[str], None]) -> list[Path]:
    """Download the bars of a spec that are not stored; return their files (none for local providers)."""
    download = provider_of(spec).download
    if download is None:
        return []
    require(bool(spec.symbols), "data.symbols", spec.symbols, f"given with data.provider={spec.provider}")
    jobs = [plan_download(spec, download, symbol) for symbol in spec.symbols]
    wanted = [_Wanted(job, bool(job.missing_spans())) for job in jobs]
    due = [each.job for each in wanted if each.due]
    if due:
        with meter(spec.provider, say) as shown:
            _download(spec, download, due, shown)
    for each in wanted:
        say(_summary_line(each.job, checked_manifest(each.job.path, each.job.symbol), each.due))
    return [job.path for job in jobs]


def _download(spec: DataSpec, download: DownloadSource, jobs: list[SymbolDownload], shown: Meter) -> None:
    """Fetch the missing bars of each symbol, once the source knows all symbols."""
    client = download.connect(spec, shown.wait)
    _check_timeframe(spec, client)
    begun = [_from_first_bar(job, client) for job in jobs]
    try:
        client.check([job.symbol for job in begun])
        for job in begun:
            _bring_up_to_date(job, client, shown)
    except DownloadError as error:
        raise DownloadError(f"{error}; type the same command again to go on") from None


def plan_download(spec: DataSpec, download: DownloadSource, symbol: str) -> SymbolDownload:
    """Return the download of a symbol's ended bars in the selected period.

    One day more than data.start to data.end is fetched on either side: daily bars count by their dates, which
    begin hours before or after 00:00 UTC.
    """
    now_ns = pd.Timestamp(clock.now()).as_unit("ns").value
    length_ns = timeframe_ns(source_timeframe(spec))
    period = period_of(spec, now_ns)
    until_ns = None if period.end_ns is None else period.end_ns + DAY_NS
    asked_ns = period.start_ns
    if asked_ns is not None:
        asked_ns -= DAY_NS if spec.start is not None else 0
        asked_ns = -(-asked_ns // length_ns) * length_ns
    path = stored_path(spec, download, symbol)
    return SymbolDownload(spec, download, symbol, path, length_ns, asked_ns, now_ns, until_ns)


def _check_timeframe(spec: DataSpec, client: Client) -> None:
    """Refuse a timeframe that the source does not provide."""
    key = "data.timeframe" if spec.source_timeframe is None else "data.source_timeframe"
    served = ", ".join(client.timeframes)
    allowed = (
        f"one of {served} from {client.name} (data.source_timeframe=1h makes any coarser data.timeframe)"
    )
    require(source_timeframe(spec) in client.timeframes, key, source_timeframe(spec), allowed)


def _from_first_bar(job: SymbolDownload, client: Client) -> SymbolDownload:
    """Return the job with its first bar set: without a period, the oldest bar the source provides."""
    if job.asked_ns is not None or is_stored(job.path):
        return job
    reach = client.history_limit(job.timeframe)
    allowed = (
        f"a number of months, or data.start, with {client.name}, which serves {job.timeframe} bars of any age"
    )
    require(reach is not None, "data.months", None, allowed)
    return replace(job, asked_ns=job.end_ns - reach.span_ns) if reach else job


def _bring_up_to_date(job: SymbolDownload, client: Client, shown: Meter) -> None:
    """Fetch the missing bars of one symbol under the lock of its file."""
    shown.begin(f"{job.symbol} {job.timeframe}")
    with _locked(job.path, shown.say):
        try:
            for piece in job.missing_spans():
                fetch_span(job, client, piece, shown)
        except RestatedError as restated:
            shown.say(f"{job.symbol}: {restated}; downloading all of it again")
            fetch_span(job, client, whole_span(job), shown)


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a stored file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is downloading {path.name}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _summary_line(job: SymbolDownload, manifest: DownloadManifest, fetched: bool) -> str:
    """Return one line on a symbol's stored bars: number, span, gaps and file."""
    gaps = "" if manifest.gaps is None else f", {pluralise(manifest.gaps, 'gap')}"
    span = f"{manifest.first} to {manifest.last}"
    line = f"{job.symbol}: {manifest.rows:,} bars of {job.timeframe}, {span}{gaps}, in {job.path}"
    if fetched:
        return line
    return f"{line} (stored {manifest.fetched_at}, nothing fetched; data.refresh=true appends what is new)"
