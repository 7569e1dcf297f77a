"""The ranking of finalists: their fresh scores, by the lower bound."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from envs.types import FloatArray
from optimize.database import Engine
from optimize.evaluate.fresh_score import fresh_interval
from optimize.evaluate.median import lower_median
from optimize.results.finalists import (
    Finalist,
    FinalistRun,
    ended_finalist_runs,
    ranked_finalists,
    save_finalists,
)
from optimize.results.returns import returns_of_run
from optimize.results.states import RunState
from optimize.study.finalists.plan import FinalistPlan

LAST = float("-inf")


def rank_finalists(engine: Engine, plan: FinalistPlan) -> list[Finalist]:
    """Measure every parameter set of a study that has ended runs, store the ranking and return it.

    Those of an earlier plan keep the search score that they were chosen by.
    """
    with engine.connect() as conn:
        scores = {each.parameter_set: each.search_score for each in ranked_finalists(conn, plan.study)}
        scores |= {each.parameter_set: each.search_score for each in plan.entrants}
        runs: dict[str, list[FinalistRun]] = {}
        for run in ended_finalist_runs(conn, plan.study):
            if run.parameter_set in scores:
                runs.setdefault(run.parameter_set, []).append(run)
        returns = {run.run_uuid: returns_of_run(conn, run.run_uuid) for each in runs.values() for run in each}
    found = [_measure(plan, scores[of_set], each, returns) for of_set, each in runs.items()]
    found.sort(key=rank_key)
    ranked = [dataclasses.replace(each, rank=rank) for rank, each in enumerate(found, start=1)]
    with engine.begin() as conn:
        save_finalists(conn, plan.study, ranked)
        return ranked_finalists(conn, plan.study)


def rank_key(finalist: Finalist) -> tuple[bool, bool, float, float]:
    """Return the key of the order; the bound of a single seed lacks the error of the seed and comes later."""
    bounds = (finalist.lower_bound, finalist.fresh_score)
    low, fresh = (LAST if value is None else value for value in bounds)
    return finalist.gate is not None, finalist.seeds < 2, -low, -fresh


def _measure(
    plan: FinalistPlan, search_score: float, runs: Sequence[FinalistRun], returns: Mapping[str, FloatArray]
) -> Finalist:
    """Return the figures of one parameter set; its rank is set by the caller."""
    scores = [run.score if run.state == RunState.COMPLETE else None for run in runs]
    feasible = np.array([score is not None for score in scores])
    known = [score for score in scores if score is not None]
    fresh = lower_median(scores)
    median = next(
        (run for run, score in zip(runs, scores, strict=True) if score is not None and score == fresh), None
    )
    spec, metrics = runs[0].spec, runs[0].metrics or {}
    low, high = fresh_interval(
        np.stack([returns[run.run_uuid] for run in runs]),
        feasible,
        sessions_per_year=float(metrics["sessions_per_year"] or 0.0),
        risk_free=float(spec["score"]["risk_free"]),
        seed=plan.seed,
    )
    return Finalist(
        study_name=plan.study,
        parameter_set=runs[0].parameter_set,
        rank=0,
        trial_number=runs[-1].trial_number,
        parameters=runs[0].parameters,
        search_score=search_score,
        fresh_score=fresh,
        lower_bound=low,
        upper_bound=high,
        score_mean=statistics.fmean(known) if known else None,
        score_deviation=statistics.stdev(known) if len(known) > 1 else None,
        score_min=min(known, default=None),
        score_max=max(known, default=None),
        random_quantile=None if median is None else median.random_quantile,
        seeds=len(runs),
        infeasible=len(runs) - len(known),
        run_uuid=None if median is None else median.run_uuid,
        gate=None if median is None else median.gate,
        flags=None if median is None else median.flags,
    )
