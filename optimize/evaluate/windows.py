"""Walk-forward windows: planned on calendar sessions, placed on the bars of a market."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from envs.fields import RUN, check_ranges, setting
from envs.types import DateArray, Market
from optimize.errors import BadInputError, require
from optimize.inputs import read_file

WINDOW_KINDS = ("rolling", "expanding", "canonical")
SPAN_EDGES = ("train_start", "train_end", "test_start", "test_end")
_PARTS = 8  # of a train span that is played by its own policy
SNAP_DAYS = 7  # a listed edge may lie in a weekend or holiday just outside the data


@dataclass(frozen=True)
class WindowSpec:
    """Division of the sessions into train and test spans."""

    kind: str = setting("rolling", RUN, "How train and test spans are laid out.", choices=WINDOW_KINDS)
    count: int = setting(4, RUN, "Number of windows.", unit="windows", low=1)
    train_ratio: float = setting(
        3.0, RUN, "Length of the train span of the first window.", unit="test spans", above=0
    )
    embargo_sessions: int = setting(
        0, RUN, "Extra gap between train and test span, on top of the purge.", unit="sessions", low=0
    )
    holdout_share: float = setting(
        0.15, RUN, "Last part of the sessions, which is in no window.", unit="of the sessions", low=0, below=1
    )
    holdout: list[str] = setting(
        [],
        RUN,
        "First session of the holdout and the day after its last; empty: the last holdout_share of the "
        "sessions. A study takes the holdout that its database keeps for its bars.",
        unit="ISO dates",
    )
    min_train_bars: int = setting(200, RUN, "Fewest bars of a train span.", unit="bars", low=1)
    min_test_bars: int = setting(20, RUN, "Fewest bars of a test span.", unit="bars", low=1)
    spans: list[dict[str, str]] = setting(
        [],
        RUN,
        "Listed windows (kind=canonical): train_start, train_end, test_start, test_end; ends are exclusive.",
        unit="ISO dates",
    )
    file: str | None = setting(
        None, RUN, "JSON file with a list of such spans, instead of kind.", null="no file"
    )

    def __post_init__(self) -> None:
        check_ranges(self, "window")
        if self.holdout:
            holdout_dates(self.holdout)
        if self.file is not None:
            require(not self.spans, "window.file", self.file, "left out when window.spans is given")
        elif self.kind == "canonical":
            require(bool(self.spans), "window.spans", self.spans, "a non-empty list, or give window.file")
        else:
            require(not self.spans, "window.spans", self.spans, "empty unless window.kind=canonical")


@dataclass(frozen=True)
class WindowDates:
    """The calendar of one window, the same at every timeframe; ends are exclusive."""

    index: int
    train_start: date
    train_end: date
    test_start: date
    test_end: date
    test_sessions: int  # calendar sessions in the test span, those without bars included


@dataclass(frozen=True)
class WindowPlan:
    """All windows in order of time, and the span that no window may reach."""

    windows: tuple[WindowDates, ...]
    holdout: tuple[date, date] | None  # end exclusive

    @property
    def test_sessions(self) -> int:
        """Return the number of calendar sessions in all test spans."""
        return sum(window.test_sessions for window in self.windows)


@dataclass(frozen=True)
class Window:
    """One window on the bars of one market; bar indices are inclusive at both ends."""

    index: int
    train_first: int
    train_last: int  # purged: every fill, mark and n-step target of training is at or before it
    test_first: int  # the first fill; its decision is made at the close of the bar before
    test_last: int  # the account is closed on this bar
    purge_bars: int
    test_sessions: tuple[int, int]  # ordinals of the test span, end exclusive
    dates: WindowDates


def purge_bars(fill: str, horizon: int) -> int:
    """Return the bars to drop from a train end: fill delay plus reward or label horizon, in bars."""
    require(fill in ("open", "close"), "env.fill", fill, "open or close")
    return (1 if fill == "open" else 0) + horizon


def plan_windows(spec: WindowSpec, session_date: DateArray) -> WindowPlan:
    """Plan the windows on the calendar sessions (S,) alone, so that no searched parameter moves them."""
    usable, held_end = _holdout_ordinals(spec, session_date)
    if spec.kind == "canonical" or spec.file is not None:
        ordinals = _listed_ordinals(spec, session_date, usable)
    else:
        ordinals = _regular_ordinals(spec, usable)
    windows = tuple(_dates(session_date, index, edges) for index, edges in enumerate(ordinals))
    held = usable < held_end
    holdout = (_edge_date(session_date, usable), _edge_date(session_date, held_end)) if held else None
    return WindowPlan(windows, holdout)


def holdout_dates(stated: Sequence[str]) -> tuple[date, date]:
    """Return the dates of window.holdout, the end exclusive."""
    allowed = "two ISO dates, the end exclusive, such as [2024-01-01,2024-07-01], or empty"
    try:
        first, end = (date.fromisoformat(str(day)) for day in stated)
    except ValueError:
        raise BadInputError(f"window.holdout={list(stated)} is not allowed: it must be {allowed}") from None
    require(first <= end, "window.holdout", list(stated), allowed)
    return first, end


def _holdout_ordinals(spec: WindowSpec, session_date: DateArray) -> tuple[int, int]:
    """Return the session ordinals of the holdout, equal where there is none; windows end at the first."""
    total = len(session_date)
    if spec.holdout:
        first, end = (
            int(np.searchsorted(session_date, np.datetime64(day))) for day in holdout_dates(spec.holdout)
        )
        return first, end
    return total - (max(1, round(total * spec.holdout_share)) if spec.holdout_share > 0 else 0), total


def place_windows(
    plan: WindowPlan, market: Market, *, purge_bars: int, lookback: int, spec: WindowSpec
) -> tuple[Window, ...]:
    """Place the planned windows on the bars of a market; raise BadInputError where bars are too few."""
    windows = tuple(_place(dates, market, purge_bars, lookback) for dates in plan.windows)
    for window in windows:
        _check_bars(window, market, spec)
    return windows


def inline_file(spec: WindowSpec) -> WindowSpec:
    """Return the spec with the spans of its file inlined, so that a later edit of the file is detected.

    Invalid spans are refused here, before a market is built.
    """
    place = spec.file if spec.file is not None else "window.spans"
    spans: Sequence[Any] = spec.spans if spec.file is None else _read_spans(Path(spec.file))
    for index, span in enumerate(spans):
        _span_dates(span, f"{place}[{index}]")
    return spec if spec.file is None else replace(spec, kind="canonical", file=None, spans=list(spans))


def train_start(window: Window, market: Market) -> date:
    """Return the session of the first train bar, which in early windows follows warm-up and lookback."""
    first: date = market.session_date[market.session[window.train_first]].item()
    return first


def _regular_ordinals(spec: WindowSpec, usable: int) -> list[tuple[int, int, int, int]]:
    """Return the session ordinals of the edges of rolling or expanding windows."""
    test = int((usable - spec.embargo_sessions) / (spec.count + spec.train_ratio))
    train = int(spec.train_ratio * test)
    if test < 1 or train < 1:
        raise BadInputError(
            f"window.count={spec.count} windows with window.train_ratio={spec.train_ratio} and "
            f"window.embargo_sessions={spec.embargo_sessions} do not fit into the {max(usable, 0)} sessions "
            f"before the holdout: use a longer span of data (data.months), a smaller window.count or a "
            f"smaller window.holdout_share"
        )
    ordinals = []
    for index in range(spec.count):
        test_start = usable - (spec.count - index) * test
        train_end = test_start - spec.embargo_sessions
        from_start = index == 0 or spec.kind == "expanding"  # the first train span takes the remainder
        ordinals.append((0 if from_start else train_end - train, train_end, test_start, test_start + test))
    return ordinals


def _listed_ordinals(
    spec: WindowSpec, session_date: DateArray, usable: int
) -> list[tuple[int, int, int, int]]:
    """Snap the listed spans to sessions and return the ordinals of their edges."""
    place = spec.file if spec.file is not None else "window.spans"
    spans: Sequence[Any] = spec.spans if spec.file is None else _read_spans(Path(spec.file))
    ordinals: list[tuple[int, int, int, int]] = []
    for index, span in enumerate(spans):
        where = f"{place}[{index}]"
        dates = _span_dates(span, where)
        _check_inside(dates, session_date, where)
        edges = [int(np.searchsorted(session_date, np.datetime64(edge))) for edge in dates]
        edges[1] = min(edges[1], edges[2] - spec.embargo_sessions)
        if edges[0] >= edges[1] or edges[2] >= edges[3]:
            raise BadInputError(f"{where} leaves no session to train or to test: move its edges apart")
        if edges[3] > usable:
            raise BadInputError(
                f"{where}.test_end={dates[3]} reaches into the holdout, which begins at "
                f"{_edge_date(session_date, usable)}: end it there or lower window.holdout_share"
            )
        if ordinals and edges[2] < ordinals[-1][3]:
            raise BadInputError(
                f"{where}.test_start={dates[2]} lies before the end of the test span before it: "
                f"list the windows in order of time, with test spans that do not overlap"
            )
        ordinals.append((edges[0], edges[1], edges[2], edges[3]))
    return ordinals


def _read_spans(path: Path) -> list[Any]:
    try:
        spans = json.loads(read_file(path, "window.file"))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"window.file={path} cannot be read as JSON: {error}") from error
    require(isinstance(spans, list) and bool(spans), f"{path}", spans, "a JSON list of at least one span")
    return list(spans)


def _span_dates(span: Any, where: str) -> tuple[date, date, date, date]:
    """Parse one span and check that train precedes test."""
    known = isinstance(span, Mapping) and set(span) == set(SPAN_EDGES)
    require(known, where, span, f"a mapping with exactly the keys {', '.join(SPAN_EDGES)}")
    try:
        dates = [date.fromisoformat(str(span[edge])) for edge in SPAN_EDGES]
    except ValueError as error:
        raise BadInputError(f"{where} has a value that is not an ISO date (YYYY-MM-DD): {error}") from error
    train_start, train_end, test_start, test_end = dates
    if not train_start < train_end <= test_start < test_end:
        order = "train_start < train_end <= test_start < test_end"
        raise BadInputError(f"{where} is out of order: it must hold that {order}")
    return train_start, train_end, test_start, test_end


def _check_inside(dates: Sequence[date], session_date: DateArray, where: str) -> None:
    first, end = _edge_date(session_date, 0), _edge_date(session_date, len(session_date))
    slack = timedelta(days=SNAP_DAYS)
    if dates[0] < first - slack or dates[-1] > end + slack:
        raise BadInputError(
            f"{where} runs from {dates[0]} to {dates[-1]}, but the data from {first} to {end}: "
            f"move its edges inside or use a longer span of data (data.months)"
        )


def _edge_date(session_date: DateArray, ordinal: int) -> date:
    """Return the date of a session, or the day after the last one for the ordinal past the end."""
    if ordinal < len(session_date):
        edge: date = session_date[ordinal].item()
        return edge
    last: date = session_date[-1].item()
    return last + timedelta(days=1)


def _dates(session_date: DateArray, index: int, edges: tuple[int, int, int, int]) -> WindowDates:
    train_start, train_end, test_start, test_end = (_edge_date(session_date, edge) for edge in edges)
    return WindowDates(index, train_start, train_end, test_start, test_end, edges[3] - edges[2])


def _place(dates: WindowDates, market: Market, purge: int, lookback: int) -> Window:
    ordinals = [
        int(np.searchsorted(market.session_date, np.datetime64(getattr(dates, e)))) for e in SPAN_EDGES
    ]
    bars = [int(bar) for bar in np.searchsorted(market.session, ordinals)]
    if ordinals[3] - ordinals[2] != dates.test_sessions:
        raise BadInputError(
            f"window {dates.index} ({_spell(dates)}) has {dates.test_sessions} test sessions, but the market "
            f"at data.timeframe={market.timeframe} has {ordinals[3] - ordinals[2]}: plan the windows "
            "on the same data"
        )
    return Window(
        index=dates.index,
        train_first=max(bars[0], lookback - 1),
        train_last=bars[1] - 1 - purge,
        test_first=bars[2],
        test_last=bars[3] - 1,
        purge_bars=purge,
        test_sessions=(ordinals[2], ordinals[3]),
        dates=dates,
    )


def _check_bars(window: Window, market: Market, spec: WindowSpec) -> None:
    """Refuse a window with too few train or test bars."""
    counts = (
        ("train", window.train_last - window.train_first + 1, "min_train_bars", spec.min_train_bars),
        ("test", window.test_last - window.test_first + 1, "min_test_bars", spec.min_test_bars),
    )
    name = f"window {window.index} ({_spell(window.dates)}) at data.timeframe={market.timeframe}"
    settled = _edge_date(market.session_date, int(market.session[0]))
    for span, bars, key, needed in counts:
        if bars < needed:
            shorter = " or feature.lookback" if span == "train" else ""
            late = span == "train" and settled > window.dates.train_start
            after = f" from {settled} on, when its features have settled" if late else ""
            raise BadInputError(
                f"{name} has {max(bars, 0)} {span} bars{after}, needs {needed}: use a longer span of "
                f"data (data.months), a finer data.timeframe, a smaller window.count{shorter}, "
                f"or lower window.{key}"
            )


def _spell(dates: WindowDates) -> str:
    train, test = f"{dates.train_start}..{dates.train_end}", f"{dates.test_start}..{dates.test_end}"
    return f"train {train}, test {test}, ends exclusive"


def parts_of_sessions(
    market: Market, first: int, last: int, parts: int = _PARTS
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return equal parts of a span of bars, cut between sessions, each as (its bars, its sessions).

    Both are first and last; the bars include the last one, and the ordinals of sessions do not.
    Each part is played from a flat account, so that a policy without a compiled form plays all at once.
    """
    ordinals = np.unique(market.session[first : last + 1])
    found = []
    for part in np.array_split(ordinals, min(parts, len(ordinals))):
        low, end = int(part[0]), int(part[-1]) + 1
        begin = max(first, int(np.searchsorted(market.session, low)))
        stop = min(last, int(np.searchsorted(market.session, end)) - 1)
        found.append(((begin, stop), (low, end)))
    return found
