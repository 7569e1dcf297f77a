"""The holdout of finalists: their newest agents evaluated on it, each set after an opening that is logged."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from envs.plain import to_plain
from optimize.bundles.evaluate import span_window
from optimize.bundles.holdout import too_short
from optimize.bundles.replay import load_window_model
from optimize.database import Connection
from optimize.errors import BadInputError
from optimize.evaluate.captions import BUY_AND_HOLD
from optimize.evaluate.summary import summarise
from optimize.evaluate.windows import WindowPlan
from optimize.report.format import format_score, ordinal
from optimize.results.finalists import (
    Finalist,
    FinalistHoldout,
    FinalistRun,
    ended_finalist_runs,
    finalist_holdouts,
    save_finalist_holdout,
)
from optimize.results.holdout import HoldoutOpening, log_opening, openings_of, score_opening
from optimize.results.instrument_names import instruments_of
from optimize.study.finalists.plan import Entrant, FinalistPlan
from optimize.study.finalists.retrain import Place
from optimize.walkforward.files import finalist_folder, holds_agent, window_folder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import conclude, evaluate_baselines, evaluate_window

PURPOSE = "finalists"


def check_holdout(plan: FinalistPlan, market_of: Callable[[Entrant], WindowedMarket]) -> None:
    """Raise BadInputError where the study has no holdout, or one too short for a score."""
    entrant = plan.entrants[0]
    windowed = market_of(entrant)
    span = windowed.plan.holdout
    if span is None:
        raise BadInputError(f"holdout=true is not allowed: study {plan.study} has no holdout; leave it out")
    short = too_short(span, _on_holdout(windowed, span, entrant).windows, entrant.spec.score)
    if short is not None:
        raise BadInputError(f"holdout=true is not allowed: {short}")


def measure_on_holdout(
    place: Place,
    plan: FinalistPlan,
    finalists: Sequence[Finalist],
    market_of: Callable[[Entrant], WindowedMarket],
    echo: Callable[[str], None],
) -> None:
    """Open the holdout for each finalist of the plan that no gate blocks, and store how its seeds do on it.

    Runs with a stored result are not evaluated again. An opening that an interrupted launch has logged stands
    for the results of the next one.
    """
    entrants = {each.parameter_set: each for each in plan.entrants}
    for finalist in finalists:
        entrant = entrants.get(finalist.parameter_set)
        if entrant is None or finalist.gate is not None or finalist.run_uuid is None:
            continue
        waiting = _waiting(place, plan, finalist)
        if waiting:
            _measure(place, plan, finalist, entrant, waiting, market_of(entrant), echo)


def _waiting(place: Place, plan: FinalistPlan, finalist: Finalist) -> list[FinalistRun]:
    """Return the ended runs of a finalist that have no result on the holdout."""
    with place.engine.connect() as conn:
        known = {each.run_uuid for each in finalist_holdouts(conn, plan.study)}
        ended = ended_finalist_runs(conn, plan.study)
    mine = [run for run in ended if run.parameter_set == finalist.parameter_set]
    return [run for run in mine if run.run_uuid not in known]


def _measure(
    place: Place,
    plan: FinalistPlan,
    finalist: Finalist,
    entrant: Entrant,
    waiting: Sequence[FinalistRun],
    windowed: WindowedMarket,
    echo: Callable[[str], None],
) -> None:
    """Log one opening for a parameter set, evaluate its runs, and store their results."""
    span = windowed.plan.holdout
    if span is None:  # check_holdout refuses it
        return
    opening, count = _opened(place, plan, finalist, entrant, windowed, span)
    on_holdout = _on_holdout(windowed, span, entrant)
    found = evaluate_baselines(entrant.spec, on_holdout, plan.seed, turnovers=())
    hold = next((each.score for each in found if each.name == BUY_AND_HOLD), None)
    results = []
    for run in waiting:
        empty = FinalistHoldout(run.run_uuid, *span, opening.opened_at, None, hold)
        results.append(_result(place, entrant, run, windowed, on_holdout, empty))
    with place.engine.begin() as conn:
        for result in results:
            save_finalist_holdout(conn, result)
        stored = {each.run_uuid: each for each in finalist_holdouts(conn, plan.study)}
        median = stored.get(str(finalist.run_uuid))
        score = None if median is None else median.score
        score_opening(conn, opening, score)
    echo(
        f"trial {finalist.trial_number} on the holdout {span[0]} to {span[1]} (exclusive), opened for the "
        f"{ordinal(count)} time: score {format_score(score)}, buy_and_hold {format_score(hold)}"
    )


def _opened(
    place: Place,
    plan: FinalistPlan,
    finalist: Finalist,
    entrant: Entrant,
    windowed: WindowedMarket,
    span: tuple[date, date],
) -> tuple[HoldoutOpening, int]:
    """Log an opening, or find the one that an interrupted launch has logged; return it with the count."""
    folder = finalist_folder(place.folder, finalist.parameter_set, 0).parent.resolve()
    names = instruments_of(to_plain(entrant.spec)["data"], windowed.market.symbols)
    with place.engine.begin() as conn:
        before = openings_of(conn, names, *span)
        unfinished = _unfinished(conn, plan, folder, before)
        if unfinished is not None:
            return unfinished, len(before)
        opening = HoldoutOpening(names, *span, plan.study, str(finalist.run_uuid), str(folder), PURPOSE)
        return opening, log_opening(conn, opening)


def _unfinished(
    conn: Connection, plan: FinalistPlan, folder: Path, before: Sequence[HoldoutOpening]
) -> HoldoutOpening | None:
    done = {each.opened_at for each in finalist_holdouts(conn, plan.study)}
    mine = [
        each
        for each in before
        if (each.purpose, each.study_name) == (PURPOSE, plan.study) and Path(each.bundle).name == folder.name
    ]
    return next((each for each in mine if each.opened_at not in done), None)


def _on_holdout(windowed: WindowedMarket, span: tuple[date, date], entrant: Entrant) -> WindowedMarket:
    """Return the market with the holdout as its one window."""
    window = span_window(0, *span, windowed.market, entrant.spec)
    return WindowedMarket(windowed.market, WindowPlan((window.dates,), None), (window,))


def _result(
    place: Place,
    entrant: Entrant,
    run: FinalistRun,
    windowed: WindowedMarket,
    on_holdout: WindowedMarket,
    empty: FinalistHoldout,
) -> FinalistHoldout:
    """Evaluate the agent of a run's last window, which is the one that a bundle deploys."""
    folder = finalist_folder(place.folder, run.parameter_set, run.seed)
    stored = window_folder(folder, windowed.windows[-1].index, 0)
    if not holds_agent(stored):
        return dataclasses.replace(empty, reason=f"{stored} lacks its agent")
    model = load_window_model(entrant.spec, windowed, stored)
    measured = evaluate_window(entrant.spec, on_holdout, on_holdout.windows[0], model)[0]
    found = conclude(entrant.spec, on_holdout, [[measured]], pruned_at=None).score
    whole = summarise([[measured]], windowed.market.sessions_per_year, entrant.spec.score.risk_free)
    figures = ("sharpe", "total_return", "max_drawdown", "cost", "turnover", "trades")
    numbers: dict[str, Any] = {name: whole[name] if np.isfinite(whole[name]) else None for name in figures}
    return dataclasses.replace(empty, score=found.value, reason=found.reason, **numbers)
