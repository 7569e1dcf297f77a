"""Missing bars of a download: request empty spans a second time, and report those that stay empty."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from optimize.data.bars import utc_text
from optimize.data.download.progress import Meter
from optimize.data.quality.findings import pluralise
from optimize.data.sessions import open_time, session_table
from optimize.data.sources.clients import retry
from optimize.data.sources.clients.protocol import Page
from optimize.data.timeframes import DAY_NS
from optimize.errors import BadInputError

MIN_EMPTY_BARS = 10  # shorter spans without bars are not reported
SHORTFALL_DAYS = 7  # market holidays last up to this long
DAYS_A_MONTH = 365.25 / 12


@dataclass(frozen=True, slots=True)
class SpanRequest:
    """A span of one symbol's bars, requested page by page."""

    symbol: str
    source: str
    pages: Callable[[int, int], Iterator[Page]]  # pages of the bars that start within [start_ns, end_ns)
    length_ns: int  # of a bar
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class EmptySpan:
    """A span after the first bar that was empty in two requests."""

    start_ns: int
    end_ns: int


def pages_of_span(
    request: SpanRequest, holes: list[EmptySpan], shown: Meter, *, begun: bool
) -> Iterator[Page]:
    """Yield the pages of a span; begun: the symbol has bars before it.

    Before a symbol's first bar empty pages are normal; after it they are requested a second time.
    """
    at_ns = empty_ns = request.start_ns
    for page in request.pages(request.start_ns, request.end_ns):
        if _has_bars(page, at_ns, request.end_ns):
            if begun:
                yield from _again(request, empty_ns, at_ns, holes, shown)
            begun, empty_ns = True, page.end_ns
        yield page
        at_ns = page.end_ns
    if begun:
        yield from _again(request, empty_ns, request.end_ns, holes, shown)


def _again(
    request: SpanRequest, start_ns: int, end_ns: int, holes: list[EmptySpan], shown: Meter
) -> Iterator[Page]:
    """Request an empty span again and yield its pages; add the parts that are still empty to holes."""
    if end_ns - start_ns < MIN_EMPTY_BARS * request.length_ns:
        return
    shown.wait(f"{request.symbol}: no bars came {_span(start_ns, end_ns)}, asking {request.source} again")
    time.sleep(retry.FIRST_WAIT_S)
    at_ns = start_ns
    for page in request.pages(start_ns, end_ns):
        if not _has_bars(page, at_ns, end_ns):
            begin_ns = holes.pop().start_ns if holes and holes[-1].end_ns == at_ns else at_ns
            holes.append(EmptySpan(begin_ns, min(page.end_ns, end_ns)))
        yield page
        at_ns = page.end_ns


def _has_bars(page: Page, start_ns: int, end_ns: int) -> bool:
    return bool(((page.timestamp >= start_ns) & (page.timestamp < end_ns)).any())


def describe_empty_spans(
    request: SpanRequest, holes: Sequence[EmptySpan], calendar: str | None
) -> str | None:
    """Return a message on the empty spans within the market's open time; None if there are none."""
    found = [hole for hole in holes if _is_open(hole, calendar, request.length_ns)]
    if not found:
        return None
    first = _span(found[0].start_ns, found[0].end_ns)
    more = f" and in {pluralise(len(found) - 1, 'more span')}" if len(found) > 1 else ""
    return (
        f"{request.symbol}: {request.source} has no bars {first}{more}, also when asked again: either "
        "nothing was traded, or the source is at fault"
    )


def _is_open(hole: EmptySpan, calendar: str | None, length_ns: int) -> bool:
    """Return whether the market was open long enough in an empty span for bars to be missing."""
    if calendar is None:
        return True
    try:
        table = session_table(calendar, hole.start_ns, hole.end_ns)
    except BadInputError:  # the calendar does not cover that time
        return True
    start, end = open_time(table, np.array([hole.start_ns, hole.end_ns]))
    return bool(end - start >= (MIN_EMPTY_BARS * length_ns if length_ns < DAY_NS else 1))


def describe_shortfall(
    request: SpanRequest, asked_ns: int, first_ns: int, last_ns: int, months: int | None
) -> Iterator[str]:
    """Yield a message if the bars begin later or end earlier than requested, with the likely reason."""
    grace_ns = SHORTFALL_DAYS * DAY_NS
    if first_ns - asked_ns > grace_ns:
        of_months = ""
        if months is not None:
            came = (request.end_ns - first_ns) / DAY_NS / DAYS_A_MONTH
            of_months = f" ({came:.3g} of the data.months={months})"
        yield (
            f"{request.symbol}: asked for bars from {utc_text(asked_ns)} on, but the first that "
            f"{request.source} has is of {utc_text(first_ns)}{of_months}: it was listed later, or older bars "
            "are not kept there"
        )
    if request.end_ns - last_ns > grace_ns:
        ago = (request.end_ns - last_ns) / DAY_NS
        yield (
            f"{request.symbol}: asked for bars up to {utc_text(request.end_ns)}, but the last that "
            f"{request.source} has is of {utc_text(last_ns)}, {ago:,.0f} days earlier: it is not traded any "
            "more, or the source lags behind (data.refresh=true asks again)"
        )


def _span(start_ns: int, end_ns: int) -> str:
    return f"from {utc_text(start_ns)} to {utc_text(end_ns)}"
