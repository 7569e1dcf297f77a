"""Downloading bars: what is missing is fetched page by page, kept at once, and put together at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from optimize import clock
from optimize.data.clients.protocol import Client, Download
from optimize.data.period import period_of
from optimize.data.pieces import Job, RestatedError, fetch_piece, whole
from optimize.data.progress import Meter, meter
from optimize.data.providers import provider_of
from optimize.data.quality.findings import counted
from optimize.data.spec import DAY_NS, DataSpec, timeframe_ns
from optimize.data.store import Manifest, checked_manifest, is_stored, source_timeframe, stored_path
from optimize.errors import DownloadError, require

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Wanted:
    """A symbol, and whether anything of it is to be fetched."""

    job: Job
    due: bool


def fetch(spec: DataSpec, say: Say) -> list[Path]:
    """Download what the spec names and is not stored; return the files, none for other providers."""
    download = provider_of(spec).download
    if download is None:
        return []
    require(bool(spec.symbols), "data.symbols", spec.symbols, f"given with data.provider={spec.provider}")
    jobs = [wanted_job(spec, download, symbol) for symbol in spec.symbols]
    wanted = [_Wanted(job, bool(job.pieces())) for job in jobs]
    due = [each.job for each in wanted if each.due]
    if due:
        with meter(spec.provider, say) as shown:
            _download(spec, download, due, shown)
    for each in wanted:
        say(_told(each.job, checked_manifest(each.job.path, each.job.symbol), each.due))
    return [job.path for job in jobs]


def _download(spec: DataSpec, download: Download, jobs: list[Job], shown: Meter) -> None:
    """Fetch what is missing of each symbol, all of which the source knows."""
    client = download.connect(spec, shown.wait)
    _check_timeframe(spec, client)
    begun = [_from_first_bar(job, client) for job in jobs]
    try:
        client.check([job.symbol for job in begun])
        for job in begun:
            _bring_up_to_date(job, client, shown)
    except DownloadError as error:
        raise DownloadError(f"{error}; type the same command again to go on") from None


def wanted_job(spec: DataSpec, download: Download, symbol: str) -> Job:
    """Return what is wanted of a symbol: the bars of the period asked for that have ended.

    A day more than data.start and data.end say is fetched at either end: daily bars count by their dates,
    which begin hours before or after 00:00 UTC.
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
    return Job(spec, download, symbol, path, length_ns, asked_ns, now_ns, until_ns)


def _check_timeframe(spec: DataSpec, client: Client) -> None:
    """Refuse a timeframe that the source does not serve."""
    key = "data.timeframe" if spec.source_timeframe is None else "data.source_timeframe"
    served = ", ".join(client.timeframes)
    allowed = (
        f"one of {served} from {client.name} (data.source_timeframe=1h makes any coarser data.timeframe)"
    )
    require(source_timeframe(spec) in client.timeframes, key, source_timeframe(spec), allowed)


def _from_first_bar(job: Job, client: Client) -> Job:
    """Return the job with its first bar; where no period is asked for, the oldest that the source serves."""
    if job.asked_ns is not None or is_stored(job.path):
        return job
    reach = client.reach(job.timeframe)
    allowed = (
        f"a number of months, or data.start, with {client.name}, which serves {job.timeframe} bars of any age"
    )
    require(reach is not None, "data.months", None, allowed)
    return replace(job, asked_ns=job.end_ns - reach.span_ns) if reach else job


def _bring_up_to_date(job: Job, client: Client, shown: Meter) -> None:
    """Fetch what is missing of one symbol; no other process does so meanwhile."""
    shown.begin(f"{job.symbol} {job.timeframe}")
    with _locked(job.path, shown.say):
        try:
            for piece in job.pieces():
                fetch_piece(job, client, piece, shown)
        except RestatedError as restated:
            shown.say(f"{job.symbol}: {restated}; downloading all of it again")
            fetch_piece(job, client, whole(job), shown)


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
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


def _told(job: Job, manifest: Manifest, fetched: bool) -> str:
    """Return which file holds a symbol's bars, and their span."""
    gaps = "" if manifest.gaps is None else f", {counted(manifest.gaps, 'gap')}"
    span = f"{manifest.first} to {manifest.last}"
    line = f"{job.symbol}: {manifest.rows:,} bars of {job.timeframe}, {span}{gaps}, in {job.path}"
    if fetched:
        return line
    return f"{line} (stored {manifest.fetched_at}, nothing fetched; data.refresh=true appends what is new)"
