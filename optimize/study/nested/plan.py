"""The studies of a nested walk-forward: one on the bars before each outer window, and one that trades it.

The outer windows are those of the study. The study before window k has the windows before k as its own, so
that its result is what the search would have found on that day.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from envs.plain import from_plain
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.windows import WindowDates, WindowPlan, WindowSpec
from optimize.results.study_names import outer_name, trade_name
from optimize.search.spec import PhaseSpec, PrunerSpec, SamplerSpec, StartSpec
from optimize.study.spec import StudySpec

TRADE_SESSIONS = 2  # of a trade: its Sharpe ratio is not the score of a search


def outer_windows(spec: StudySpec, plan: WindowPlan) -> tuple[WindowDates, ...]:
    """Return the windows with enough test sessions before them for a score; refuse a plan without one."""
    before, found = 0, []
    for window in plan.windows:
        if before >= spec.score.min_periods:
            found.append(window)
        before += window.test_sessions
    if not found:
        raise BadInputError(
            f"nested=true needs a window with at least score.min_periods={spec.score.min_periods} test "
            f"sessions in the windows before it: set window.count to 2 or more, or use a longer span of data"
        )
    return tuple(found)


def inner_study(spec: StudySpec, plan: WindowPlan, outer: WindowDates, first: str) -> StudySpec:
    """Return the study on the bars before an outer window; `first` is the date of the first session.

    It takes no sets of an earlier study: those were chosen with the bars of later windows.
    """
    return dataclasses.replace(
        spec,
        name=outer_name(spec.name, outer.index),
        nested=False,
        preflight=False,  # the study itself has passed it
        data=_until(spec.data, outer.test_start, first),
        window=_listed(spec.window, plan.windows[: outer.index]),
        search=dataclasses.replace(spec.search, start_from=None),
    )


def trading_study(
    spec: StudySpec, chosen: Mapping[str, Any], parameter_set: str, outer: WindowDates, first: str
) -> StudySpec:
    """Return the study of one trial that trains and trades an outer window; `chosen` is the plain spec.

    It has one repeat, since one account trades, and no limit on trades, since nothing is chosen by it.
    """
    best = from_plain(StudySpec, chosen)
    score = dataclasses.replace(
        best.score, kind="joined", repeats=1, min_periods=TRADE_SESSIONS, min_trades=0, min_volatility=0.0
    )
    return dataclasses.replace(
        best,
        name=trade_name(spec.name, outer.index, parameter_set),
        nested=False,
        n_trials=1,
        space={},
        sampler=SamplerSpec("random"),
        pruner=PrunerSpec("none"),
        search=StartSpec(),
        phase=PhaseSpec(),
        data=_until(best.data, outer.test_end, first),
        window=_listed(spec.window, [outer]),
        score=score,
        worker=dataclasses.replace(spec.worker, count=1, mode="async", batch_size=0),
        database=spec.database,
        output_dir=spec.output_dir,
        notify=spec.notify,
    )


def _until(data: DataSpec, end: Any, first: str) -> DataSpec:
    """Return the data up to the day before a date; data.months would count back from there."""
    last = (end - timedelta(days=1)).isoformat()
    start = first if data.months is not None else data.start
    return dataclasses.replace(data, start=start, end=last, months=None, refresh=False)


def _listed(window: WindowSpec, windows: Sequence[WindowDates]) -> WindowSpec:
    """Return a layout of these windows, in which no span is held out: the bars end before it."""
    edges = ("train_start", "train_end", "test_start", "test_end")
    spans = [{edge: getattr(each, edge).isoformat() for edge in edges} for each in windows]
    return dataclasses.replace(
        window,
        kind="canonical",
        spans=spans,
        file=None,
        count=len(spans),
        holdout_share=0.0,
        holdout=[],
        embargo_sessions=0,
    )
