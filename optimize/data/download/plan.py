"""Plan and fetch the spans of bars missing from a stored file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.download.gaps import (
    EmptySpan,
    SpanRequest,
    describe_empty_spans,
    describe_shortfall,
    pages_of_span,
)
from optimize.data.download.journal import Journal, open_journal, remove_journals
from optimize.data.download.progress import Meter
from optimize.data.download.store import make_manifest, write_stored
from optimize.data.sources.clients.protocol import Client, DownloadSource, Page
from optimize.data.sources.downloaded import (
    DownloadManifest,
    checked_manifest,
    is_stored,
    manifest_time_ns,
    source_timeframe,
    stored_rows,
)
from optimize.data.spec import DataSpec
from optimize.data.timeframes import DAY_NS, HOUR_NS
from optimize.errors import BadInputError, DownloadError

FULL_SPAN, BEFORE, AFTER = "whole", "before", "after"
# The next bar may start less than a timeframe after the last one: some sources stamp daily bars by local
# days, which have 23 hours when clocks go forward.
NEXT_NS = 1
SAME_PRICE = 1e-6  # relative; a larger difference means that prices were adjusted since the last download


class RestatedError(Exception):
    """The source now reports other prices for a bar that was downloaded before."""


@dataclass(frozen=True, slots=True)
class MissingSpan:
    """A span of bars to fetch: the whole, or the part before or after the stored bars."""

    kind: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class SymbolDownload:
    """The download of one symbol's bars."""

    spec: DataSpec
    download: DownloadSource
    symbol: str
    path: Path
    length_ns: int  # of a bar
    asked_ns: int | None  # start of the first requested bar; None: the stored bars suffice
    now_ns: int  # only bars that have ended by then are kept
    until_ns: int | None = None  # end of the requested bar starts; None: up to now

    @property
    def timeframe(self) -> str:
        """Return the timeframe of the bars to fetch."""
        return source_timeframe(self.spec)

    @property
    def end_ns(self) -> int:
        """Return the exclusive end of the starts of bars that are requested and have ended."""
        latest_ns = self.now_ns if self.until_ns is None else min(self.now_ns, self.until_ns)
        return latest_ns // self.length_ns * self.length_ns

    def missing_spans(self) -> list[MissingSpan]:
        """Return the missing spans; later bars are fetched with data.refresh, or up to data.end."""
        if not is_stored(self.path):
            return [MissingSpan(FULL_SPAN, self.asked_ns or 0, self.end_ns)]
        manifest = checked_manifest(self.path, self.symbol)
        asked_from_ns = manifest_time_ns(manifest.asked_from)
        last_ns = manifest_time_ns(manifest.last)
        found = []
        if self.asked_ns is not None and self.asked_ns < asked_from_ns:
            found.append(MissingSpan(BEFORE, self.asked_ns, asked_from_ns))
        latest_ns = self.now_ns if self.until_ns is None else self.end_ns
        later = self.spec.refresh or self.until_ns is not None
        if later and last_ns + 2 * self.length_ns <= latest_ns:
            found.append(MissingSpan(AFTER, last_ns + NEXT_NS, self.end_ns))
        return found


def whole_span(job: SymbolDownload) -> MissingSpan:
    """Return the whole span of a stored file, to download it again; its journals are deleted."""
    remove_journals(job.path)
    asked_from_ns = (
        manifest_time_ns(checked_manifest(job.path, job.symbol).asked_from) if is_stored(job.path) else 0
    )
    starts = [ns for ns in (job.asked_ns, asked_from_ns) if ns]
    return MissingSpan(FULL_SPAN, min(starts), job.end_ns)


def fetch_span(job: SymbolDownload, client: Client, piece: MissingSpan, shown: Meter) -> None:
    """Fetch a span, resuming a killed run, and rewrite the stored file with it."""
    again = client.restates(job.symbol)
    if again:
        piece = _overlapping(job, piece)
    kept = open_journal(job.path, piece.kind, piece.start_ns)
    since_ns = kept.start_ns
    if kept.rows:
        # The last bar is requested once more to see whether its prices are unchanged.
        since_ns = int(kept.last[0][0]) + (0 if again else NEXT_NS)
        shown.say(f"{job.symbol}: going on after {kept.rows:,} bars of a download that was cut short")
    _refuse_beyond_reach(job, client, piece, since_ns)
    pages = partial(client.pages, job.symbol, job.timeframe)
    request = SpanRequest(job.symbol, client.name, pages, job.length_ns, since_ns, piece.end_ns)
    holes = _fetch(job, request, kept, shown, begun=piece.kind == AFTER or kept.rows > 0)
    manifest = _put_in_place(job, client, piece, kept)
    _report_missing(job, request, holes, manifest, shown)


def _fetch(
    job: SymbolDownload, request: SpanRequest, kept: Journal, shown: Meter, *, begun: bool
) -> list[EmptySpan]:
    """Append every page to the journal; return the spans that stayed empty."""
    holes: list[EmptySpan] = []
    try:
        for page in pages_of_span(request, holes, shown, begun=begun):
            _keep(job, page, request, kept)
            done = (page.end_ns - kept.start_ns) / (request.end_ns - kept.start_ns)
            shown.advance(min(done, 1.0), kept.rows)
    except DownloadError as error:
        rows = f"; {kept.rows:,} bars are kept" if kept.rows else ""
        raise DownloadError(f"{job.symbol}: {error}{rows}") from None
    return holes


def _report_missing(
    job: SymbolDownload,
    request: SpanRequest,
    holes: list[EmptySpan],
    manifest: DownloadManifest,
    shown: Meter,
) -> None:
    """Report spans without bars, and stored bars that begin later or end earlier than requested."""
    hole = describe_empty_spans(request, holes, manifest.calendar)
    if hole is not None:
        shown.say(f"{hole}; the next data.refresh=true, or a download after deleting {job.path}, asks anew")
    asked_ns = manifest_time_ns(manifest.asked_from)
    for line in describe_shortfall(
        request,
        asked_ns,
        manifest_time_ns(manifest.first),
        manifest_time_ns(manifest.last),
        job.spec.months if job.spec.start is None else None,
    ):
        shown.say(line)


def _overlapping(job: SymbolDownload, piece: MissingSpan) -> MissingSpan:
    """Extend a span by the adjacent stored bar, whose old and new prices are then compared."""
    if piece.kind == AFTER:
        return MissingSpan(AFTER, piece.start_ns - NEXT_NS, piece.end_ns)
    if piece.kind == BEFORE:
        first_ns = manifest_time_ns(checked_manifest(job.path, job.symbol).first)
        return MissingSpan(BEFORE, piece.start_ns, first_ns + job.length_ns)
    return piece


def _keep(job: SymbolDownload, page: Page, request: SpanRequest, kept: Journal) -> None:
    """Append to the journal the bars of a page that were requested and have ended."""
    asked = page.timestamp >= request.start_ns
    last_stamp, last_bar = kept.last
    _refuse_restated(last_stamp, last_bar, page.timestamp[asked], page.ohlcv[asked])
    first_ns = int(last_stamp[0]) + 1 if kept.rows else kept.start_ns
    chosen = (page.timestamp >= first_ns) & (page.timestamp < request.end_ns) & _ended(job, page.timestamp)
    if chosen.any():
        kept.append(page.timestamp[chosen], page.ohlcv[chosen])


def _ended(job: SymbolDownload, timestamp: IntArray) -> BoolArray:
    """Return which bars (R,) have ended; a local day (not stamped 00:00Z) may have 25 hours."""
    is_local_day = (job.length_ns == DAY_NS) & (timestamp % DAY_NS != 0)
    ended: BoolArray = timestamp + job.length_ns + np.where(is_local_day, HOUR_NS, 0) <= job.now_ns
    return ended


def _put_in_place(job: SymbolDownload, client: Client, piece: MissingSpan, kept: Journal) -> DownloadManifest:
    """Merge the fetched span into the stored bars, write them, and return their manifest."""
    timestamp, ohlcv = kept.timestamp, kept.ohlcv
    asked_from_ns = kept.start_ns
    if piece.kind != FULL_SPAN:
        stored = stored_rows(job.path, job.symbol, job.timeframe)
        asked_from = manifest_time_ns(checked_manifest(job.path, job.symbol).asked_from)
        asked_from_ns = min(asked_from, kept.start_ns)
        _refuse_restated(stored.timestamp, stored.ohlcv, timestamp, ohlcv)
        stamps, rows = np.unique(np.concatenate([stored.timestamp, timestamp]), return_index=True)
        timestamp, ohlcv = stamps, np.concatenate([stored.ohlcv, ohlcv])[rows]
    if not len(timestamp):
        kept.remove()
        span = f"from {utc_text(kept.start_ns)} to {utc_text(piece.end_ns)}"
        raise BadInputError(
            f"{job.symbol}: {client.name} has no {job.timeframe} bars {span}: take more data.months, other "
            "dates, another data.timeframe or another symbol"
        )
    raw = RawBars(job.symbol, str(job.path), timestamp, ohlcv, np.zeros(len(timestamp)), job.timeframe)
    manifest = make_manifest(job.spec, job.download, raw, asked_from_ns)
    write_stored(job.path, raw, manifest)
    remove_journals(job.path)
    return manifest


def _refuse_restated(old: IntArray, old_ohlcv: FloatArray, new: IntArray, new_ohlcv: FloatArray) -> None:
    """Refuse bars present in both sets with different prices."""
    common, old_rows, new_rows = np.intersect1d(old, new, assume_unique=True, return_indices=True)
    old_prices, new_prices = old_ohlcv[old_rows, :4], new_ohlcv[new_rows, :4]
    same = np.isclose(old_prices, new_prices, rtol=SAME_PRICE, atol=0, equal_nan=True).all(axis=1)
    if not same.all():
        first = utc_text(common[~same][0])
        raise RestatedError(f"the source has other prices at {first} now, as after a split or dividend")


def _refuse_beyond_reach(job: SymbolDownload, client: Client, piece: MissingSpan, since_ns: int) -> None:
    """Refuse bars older than those the source provides."""
    reach = client.history_limit(job.timeframe)
    if reach is None or since_ns >= job.end_ns - reach.span_ns:
        return
    needed = (job.end_ns - since_ns) // job.length_ns
    remedy = "take fewer data.months (null: all that it serves) or a coarser data.timeframe"
    if is_stored(job.path):
        remedy = f"delete {job.path} to begin anew"
    raise BadInputError(
        f"{reach.statement}, but {job.symbol} from {utc_text(since_ns)} on needs {needed:,} of "
        f"{job.timeframe}: "
        f"{remedy}, or {reach.remedy}"
    )
