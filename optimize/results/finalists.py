"""Finalists of a study: parameter sets retrained on fresh seeds, the runs behind them and their stress tests.

A run has its windows in wf_windows and its session returns in wf_returns, as the run of a trial has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, select, update

from optimize import clock
from optimize.database import has_table
from optimize.results.records import Outcome, RunRecord, WindowRecord
from optimize.results.rows import insert_if_absent, load_one, load_rows, replace_row, values_of, where
from optimize.results.states import COUNTED, RunState
from optimize.results.tables import (
    FINALIST_HOLDOUTS,
    FINALIST_RUNS,
    FINALIST_STRESS,
    FINALISTS,
    RUNS,
    WINDOWS,
)


@dataclass(frozen=True)
class FinalistRun:
    """One training of a parameter set on a fresh seed."""

    run_uuid: str
    study_name: str
    parameter_set: str
    seed: int  # 0, 1, ...: the place among the fresh seeds of the set
    trial_number: int  # of the run that the search scored the set by
    parameters: Mapping[str, Any]
    spec: Mapping[str, Any]  # resolved, with one repeat
    entropy: Any  # of the SeedSequence
    versions: Mapping[str, str]
    data_fingerprint: str
    state: RunState = RunState.RUNNING
    score: float | None = None
    standard_error: float | None = None
    reason: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    traceback: str | None = None
    seconds: float | None = None
    random_quantile: float | None = None
    gate: str | None = None
    flags: str | None = None
    metrics: Mapping[str, float | None] | None = None
    started_at: datetime = field(default_factory=clock.now)
    finished_at: datetime | None = None

    @property
    def as_run(self) -> RunRecord:
        """Return it as the run of a trial, which bundles are written from."""
        shared = RunRecord.__dataclass_fields__.keys() & FinalistRun.__dataclass_fields__.keys()
        return RunRecord(**{name: getattr(self, name) for name in shared})


@dataclass(frozen=True)
class Finalist:
    """A parameter set with its search score and the score of its fresh seeds."""

    study_name: str
    parameter_set: str
    rank: int  # by lower_bound, best first; then those of a single seed; gated ones last
    trial_number: int
    parameters: Mapping[str, Any]
    search_score: float
    fresh_score: float | None  # lower median of the seeds; None: fewer than half of them are feasible
    lower_bound: float | None  # of the fresh score, one-sided 95 %
    upper_bound: float | None
    score_mean: float | None  # of the feasible seeds
    score_deviation: float | None
    score_min: float | None
    score_max: float | None
    random_quantile: float | None  # of the median seed, among random policies of its turnover
    seeds: int  # that ended COMPLETE or PRUNED
    infeasible: int  # of them
    run_uuid: str | None  # of the median seed
    gate: str | None = None  # of the median seed, as are flags
    flags: str | None = None
    measured_at: datetime = field(default_factory=clock.now)


@dataclass(frozen=True)
class StressRecord:
    """The agents of one run, evaluated again under one scenario."""

    run_uuid: str
    scenario: str
    score: float | None
    sharpe: float | None = None
    total_return: float | None = None
    max_drawdown: float | None = None
    cost: float | None = None
    turnover: float | None = None
    trades: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FinalistHoldout:
    """The newest agent of one run, evaluated on the holdout of its study; the end is exclusive."""

    run_uuid: str
    first: date
    end: date
    opened_at: datetime
    score: float | None
    buy_and_hold: float | None  # its score there
    sharpe: float | None = None
    total_return: float | None = None
    max_drawdown: float | None = None
    cost: float | None = None
    turnover: float | None = None
    trades: float | None = None
    reason: str | None = None


def start_finalist(conn: Connection, run: FinalistRun, launched_at: datetime) -> FinalistRun | None:
    """Store a run that begins, or return the stored one of this set and seed, which goes on.

    One that failed is tried again, but once a launch: None where it failed since then.
    """
    of_seed = {"study_name": run.study_name, "parameter_set": run.parameter_set, "seed": run.seed}
    found = next(iter(load_rows(conn, FinalistRun, FINALIST_RUNS, where(FINALIST_RUNS, **of_seed))), None)
    if found is None:
        insert_if_absent(conn, FINALIST_RUNS, values_of(run))
        return load_one(conn, FinalistRun, FINALIST_RUNS, **of_seed)
    if found.state == RunState.FAIL:
        if found.finished_at is not None and found.finished_at >= launched_at:
            return None
        again = replace(run, run_uuid=found.run_uuid, started_at=found.started_at)
        replace_row(conn, FINALIST_RUNS, values_of(again))
        return again
    return found


def save_finalist_window(conn: Connection, window: WindowRecord) -> None:
    """Store a finished window of a finalist's run."""
    replace_row(conn, WINDOWS, values_of(window))


def finish_finalist(conn: Connection, run_uuid: str, outcome: Outcome) -> FinalistRun:
    """Store the outcome of a finalist's run and return it."""
    ended = values_of(outcome) | {"finished_at": clock.now()}
    known = {column.key for column in FINALIST_RUNS.columns}
    stored = {name: value for name, value in ended.items() if name in known}
    conn.execute(update(FINALIST_RUNS).where(FINALIST_RUNS.c.run_uuid == run_uuid).values(**stored))
    return load_one(conn, FinalistRun, FINALIST_RUNS, run_uuid=run_uuid)


def finalist_runs(conn: Connection, study: str) -> list[FinalistRun]:
    """Return the runs of all finalists of a study, by parameter set and seed; none in an older database."""
    if not has_table(conn, FINALIST_RUNS.name):
        return []
    rows = where(FINALIST_RUNS, study_name=study)
    ordered = rows.order_by(FINALIST_RUNS.c.parameter_set, FINALIST_RUNS.c.seed)
    return load_rows(conn, FinalistRun, FINALIST_RUNS, ordered)


def ended_finalist_runs(conn: Connection, study: str) -> list[FinalistRun]:
    """Return the runs that ended COMPLETE or PRUNED."""
    return [run for run in finalist_runs(conn, study) if run.state in COUNTED]


def load_finalist_run(conn: Connection, run_uuid: str) -> FinalistRun | None:
    """Return a run of a finalist, or None where there is none of that uuid."""
    rows = where(FINALIST_RUNS, run_uuid=run_uuid)
    return next(iter(load_rows(conn, FinalistRun, FINALIST_RUNS, rows)), None)


def save_finalists(conn: Connection, study: str, found: Iterable[Finalist]) -> None:
    """Store the ranking of a study's finalists in place of an earlier one."""
    conn.execute(delete(FINALISTS).where(FINALISTS.c.study_name == study))
    for each in found:
        replace_row(conn, FINALISTS, values_of(each))


def ranked_finalists(conn: Connection, study: str) -> list[Finalist]:
    """Return the finalists of a study, best first; none where `walkforge finalists` never ran.

    One that a gate blocks, or without a fresh score, comes last and is no candidate for an export.
    """
    if not has_table(conn, FINALISTS.name):
        return []
    rows = where(FINALISTS, study_name=study).order_by(FINALISTS.c.rank)
    return load_rows(conn, Finalist, FINALISTS, rows)


def save_stress(conn: Connection, record: StressRecord) -> None:
    """Store a stress test of a run, in place of an earlier one of the same scenario."""
    replace_row(conn, FINALIST_STRESS, values_of(record))


def stress_of(conn: Connection, study: str) -> list[StressRecord]:
    """Return the stress tests of all finalists of a study."""
    if not has_table(conn, FINALIST_STRESS.name):
        return []
    ordered = _of_runs(FINALIST_STRESS, study).order_by(FINALIST_STRESS.c.scenario)
    return load_rows(conn, StressRecord, FINALIST_STRESS, ordered)


def save_finalist_holdout(conn: Connection, record: FinalistHoldout) -> None:
    """Store the result of a run on the holdout."""
    replace_row(conn, FINALIST_HOLDOUTS, values_of(record))


def finalist_holdouts(conn: Connection, study: str) -> list[FinalistHoldout]:
    """Return the results of all finalists of a study on its holdout, none where it stayed closed."""
    if not has_table(conn, FINALIST_HOLDOUTS.name):
        return []
    return load_rows(conn, FinalistHoldout, FINALIST_HOLDOUTS, _of_runs(FINALIST_HOLDOUTS, study))


def _of_runs(table: Table, study: str) -> Select[Any]:
    """Return the rows of a table that belong to the finalist runs of a study, in the order of the runs."""
    mine = select(FINALIST_RUNS.c.run_uuid).where(FINALIST_RUNS.c.study_name == study)
    return select(table).where(table.c.run_uuid.in_(mine)).order_by(table.c.run_uuid)


def set_of_run(conn: Connection, run_uuid: str) -> str | None:
    """Return the hash of the parameter set of a trial's run."""
    found: str | None = conn.execute(select(RUNS.c.parameter_set).where(RUNS.c.run_uuid == run_uuid)).scalar()
    return found
