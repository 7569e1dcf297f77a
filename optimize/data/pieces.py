"""The spans of bars that a stored file lacks, and how one of them is fetched and put in place."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.data.bars import RawBars, utc_text
from optimize.data.clients.protocol import Client, Download, Page
from optimize.data.holes import Hole, Request, every_page, tell_ends, tell_holes
from optimize.data.partial import Partial, open_partial, remove_partials
from optimize.data.progress import Meter
from optimize.data.spec import DAY_NS, HOUR_NS, DataSpec
from optimize.data.store import (
    Manifest,
    checked_manifest,
    describe_stored,
    is_stored,
    source_timeframe,
    stamp_of,
    stored_rows,
    write_stored,
)
from optimize.errors import BadInputError, DownloadError

WHOLE, BEFORE, AFTER = "whole", "before", "after"
# After a bar's stamp the next bar may start, not a timeframe later: with some sources a daily bar is of a
# local day, which has 23 hours when clocks go forward.
NEXT_NS = 1
SAME_PRICE = 1e-6  # relative; one bar's prices that differ by more were adjusted in between


class RestatedError(Exception):
    """The source gives other prices for a bar that was downloaded before."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of bars to fetch: the whole, or what comes before or after the stored ones."""

    kind: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One symbol to bring up to date."""

    spec: DataSpec
    download: Download
    symbol: str
    path: Path
    length_ns: int  # of a bar
    asked_ns: int | None  # start of the first bar wanted; None: what is stored is enough
    now_ns: int  # a bar must have ended by then
    until_ns: int | None = None  # bars that start later are not wanted; None: up to now

    @property
    def timeframe(self) -> str:
        """Return the timeframe of the bars to fetch."""
        return source_timeframe(self.spec)

    @property
    def end_ns(self) -> int:
        """Return a stamp that every bar which is wanted and has ended starts before."""
        latest_ns = self.now_ns if self.until_ns is None else min(self.now_ns, self.until_ns)
        return latest_ns // self.length_ns * self.length_ns

    def pieces(self) -> list[Piece]:
        """Return what is missing; later bars are wanted with data.refresh, or up to data.end."""
        if not is_stored(self.path):
            return [Piece(WHOLE, self.asked_ns or 0, self.end_ns)]
        manifest = checked_manifest(self.path, self.symbol)
        asked_from_ns = stamp_of(manifest.asked_from)
        last_ns = stamp_of(manifest.last)
        found = []
        if self.asked_ns is not None and self.asked_ns < asked_from_ns:
            found.append(Piece(BEFORE, self.asked_ns, asked_from_ns))
        latest_ns = self.now_ns if self.until_ns is None else self.end_ns
        later = self.spec.refresh or self.until_ns is not None
        if later and last_ns + 2 * self.length_ns <= latest_ns:
            found.append(Piece(AFTER, last_ns + NEXT_NS, self.end_ns))
        return found


def whole(job: Job) -> Piece:
    """Return the whole span of a stored file, to be fetched anew; what was fetched of others is dropped."""
    remove_partials(job.path)
    asked_from_ns = stamp_of(checked_manifest(job.path, job.symbol).asked_from) if is_stored(job.path) else 0
    starts = [ns for ns in (job.asked_ns, asked_from_ns) if ns]
    return Piece(WHOLE, min(starts), job.end_ns)


def fetch_piece(job: Job, client: Client, piece: Piece, shown: Meter) -> None:
    """Fetch a span, after what a killed run got of it, and write the stored file anew with it."""
    again = client.restates(job.symbol)
    if again:
        piece = _overlapping(job, piece)
    kept = open_partial(job.path, piece.kind, piece.start_ns)
    since_ns = kept.start_ns
    if kept.rows:
        # A bar that is asked for once more shows whether its prices are still the same.
        since_ns = int(kept.last[0][0]) + (0 if again else NEXT_NS)
        shown.say(f"{job.symbol}: going on after {kept.rows:,} bars of a download that was cut short")
    _refuse_beyond_reach(job, client, piece, since_ns)
    pages = partial(client.pages, job.symbol, job.timeframe)
    request = Request(job.symbol, client.name, pages, job.length_ns, since_ns, piece.end_ns)
    holes = _fetch(job, request, kept, shown, begun=piece.kind == AFTER or kept.rows > 0)
    manifest = _put_in_place(job, client, piece, kept)
    _say_what_lacks(job, request, holes, manifest, shown)


def _fetch(job: Job, request: Request, kept: Partial, shown: Meter, *, begun: bool) -> list[Hole]:
    """Keep every page as it comes; return the spans that stayed empty."""
    holes: list[Hole] = []
    try:
        for page in every_page(request, holes, shown, begun=begun):
            _keep(job, page, request, kept)
            done = (page.end_ns - kept.start_ns) / (request.end_ns - kept.start_ns)
            shown.advance(min(done, 1.0), kept.rows)
    except DownloadError as error:
        rows = f"; {kept.rows:,} bars are kept" if kept.rows else ""
        raise DownloadError(f"{job.symbol}: {error}{rows}") from None
    return holes


def _say_what_lacks(job: Job, request: Request, holes: list[Hole], manifest: Manifest, shown: Meter) -> None:
    """Say which spans have no bars, and where the stored bars begin later or end earlier than asked for."""
    hole = tell_holes(request, holes, manifest.calendar)
    if hole is not None:
        shown.say(f"{hole}; the next data.refresh=true, or a download after deleting {job.path}, asks anew")
    asked_ns = stamp_of(manifest.asked_from)
    for line in tell_ends(
        request,
        asked_ns,
        stamp_of(manifest.first),
        stamp_of(manifest.last),
        job.spec.months if job.spec.start is None else None,
    ):
        shown.say(line)


def _overlapping(job: Job, piece: Piece) -> Piece:
    """Return a piece that holds the stored bar next to it as well, to compare the prices of the two."""
    if piece.kind == AFTER:
        return Piece(AFTER, piece.start_ns - NEXT_NS, piece.end_ns)
    if piece.kind == BEFORE:
        first_ns = stamp_of(checked_manifest(job.path, job.symbol).first)
        return Piece(BEFORE, piece.start_ns, first_ns + job.length_ns)
    return piece


def _keep(job: Job, page: Page, request: Request, kept: Partial) -> None:
    """Append the bars of a page that were asked for and have ended."""
    asked = page.timestamp >= request.start_ns
    last_stamp, last_bar = kept.last
    _refuse_restated(last_stamp, last_bar, page.timestamp[asked], page.ohlcv[asked])
    first_ns = int(last_stamp[0]) + 1 if kept.rows else kept.start_ns
    chosen = (page.timestamp >= first_ns) & (page.timestamp < request.end_ns) & _ended(job, page.timestamp)
    if chosen.any():
        kept.append(page.timestamp[chosen], page.ohlcv[chosen])


def _ended(job: Job, timestamp: IntArray) -> BoolArray:
    """Return which bars (R,) are over; a local day, stamped off 00:00Z, has 25 hours when clocks go back."""
    is_local_day = (job.length_ns == DAY_NS) & (timestamp % DAY_NS != 0)
    ended: BoolArray = timestamp + job.length_ns + np.where(is_local_day, HOUR_NS, 0) <= job.now_ns
    return ended


def _put_in_place(job: Job, client: Client, piece: Piece, kept: Partial) -> Manifest:
    """Write the stored bars anew with those of a piece and return their manifest."""
    timestamp, ohlcv = kept.timestamp, kept.ohlcv
    asked_from_ns = kept.start_ns
    if piece.kind != WHOLE:
        stored = stored_rows(job.path, job.symbol, job.timeframe)
        asked_from = stamp_of(checked_manifest(job.path, job.symbol).asked_from)
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
    manifest = describe_stored(job.spec, job.download, raw, asked_from_ns)
    write_stored(job.path, raw, manifest)
    remove_partials(job.path)
    return manifest


def _refuse_restated(old: IntArray, old_ohlcv: FloatArray, new: IntArray, new_ohlcv: FloatArray) -> None:
    """Refuse bars of a stamp that both have at different prices."""
    common, old_rows, new_rows = np.intersect1d(old, new, assume_unique=True, return_indices=True)
    old_prices, new_prices = old_ohlcv[old_rows, :4], new_ohlcv[new_rows, :4]
    same = np.isclose(old_prices, new_prices, rtol=SAME_PRICE, atol=0, equal_nan=True).all(axis=1)
    if not same.all():
        first = utc_text(common[~same][0])
        raise RestatedError(f"the source has other prices at {first} now, as after a split or dividend")


def _refuse_beyond_reach(job: Job, client: Client, piece: Piece, since_ns: int) -> None:
    """Refuse bars that are older than the source serves."""
    reach = client.reach(job.timeframe)
    if reach is None or since_ns >= job.end_ns - reach.span_ns:
        return
    needed = (job.end_ns - since_ns) // job.length_ns
    remedy = "take fewer data.months (null: all that it serves) or a coarser data.timeframe"
    if is_stored(job.path):
        remedy = f"delete {job.path} to begin anew"
    raise BadInputError(
        f"{reach.said}, but {job.symbol} from {utc_text(since_ns)} on needs {needed:,} of {job.timeframe}: "
        f"{remedy}, or {reach.remedy}"
    )
