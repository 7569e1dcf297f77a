"""Records of studies, runs, windows, baselines and exports; storing and loading of all but runs and windows.

Storing the same record again changes nothing.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from optimize import clock
from optimize.errors import BadInputError, require
from optimize.results.orphans import move_aside
from optimize.results.rows import insert_if_absent, load_one, load_rows, replace_row, values_of, where
from optimize.results.states import FINISHED, FailureKind, RunState
from optimize.results.tables import (
    BASELINES,
    EVENTS,
    EXPORTS,
    FINALIST_HOLDOUTS,
    FINALIST_RUNS,
    FINALIST_STRESS,
    FINALISTS,
    LEASES,
    LUCK,
    LUCK_TESTS,
    PROBES,
    RUNS,
    SESSION_RETURNS,
    STUDIES,
    TEST_SESSIONS,
    WINDOWS,
)


@dataclass(frozen=True)
class StudyRecord:
    """Settings of a study, with the hashes that a resumed study must match."""

    study_name: str
    phase: str
    n_trials: int  # cap on COMPLETE + PRUNED + RUNNING
    seed: int
    max_failures: int
    spec: Mapping[str, Any]
    space: Mapping[str, Any]
    space_hash: str
    score: Mapping[str, Any]  # how trials are scored
    score_hash: str
    data_fingerprint: str
    versions: Mapping[str, str]
    created_at: datetime = field(default_factory=clock.now)


@dataclass(frozen=True)
class RunRecord:
    """One attempt at a trial, with all values that repeat it exactly."""

    run_uuid: str
    study_name: str
    trial_number: int
    parameters: Mapping[str, Any]
    spec: Mapping[str, Any]  # resolved
    entropy: Any  # of the SeedSequence
    versions: Mapping[str, str]
    data_fingerprint: str
    repetition: int = 0
    attempt: int = 1  # set by start_run
    state: RunState = RunState.RUNNING
    score: float | None = None
    standard_error: float | None = None
    reason: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    traceback: str | None = None
    seconds: float | None = None
    metrics: Mapping[str, float | None] | None = None
    random_quantile: float | None = None  # share of random policies of equal turnover that score lower
    gate: str | None = None  # the first that blocks it; None: none does, or an older version wrote it
    flags: str | None = None  # reasons to doubt the result, separated by commas
    inputs: str | None = None  # hash of the settings that decide its linear probe
    started_at: datetime = field(default_factory=clock.now)
    finished_at: datetime | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: RunState
    seconds: float
    score: float | None = None
    standard_error: float | None = None
    reason: str | None = None  # why it was pruned or is infeasible
    failure_kind: str | None = None
    failure_message: str | None = None
    traceback: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # METRIC_COLUMNS become columns
    random_quantile: float | None = None  # share of random policies of equal turnover that score lower
    gate: str | None = None  # the first that blocks the result
    flags: str | None = None  # reasons to doubt the result, separated by commas
    inputs: str | None = None  # hash of the settings that decide its linear probe

    def __post_init__(self) -> None:
        require(self.state in FINISHED, "state", self.state, f"one of {', '.join(FINISHED)}")
        if self.state == RunState.COMPLETE:
            finite = self.score is not None and math.isfinite(self.score)
            require(finite, "score", self.score, "a finite number when the state is COMPLETE")
        if self.state == RunState.FAIL:
            kinds = f"one of {', '.join(FailureKind)} when the state is FAIL"
            require(self.failure_kind in tuple(FailureKind), "failure_kind", self.failure_kind, kinds)


@dataclass(frozen=True)
class WindowRecord:
    """One window and repeat of a run: its spans, both ends included, and the metrics of the test span."""

    run_uuid: str
    window: int
    repeat: int
    train_start: date
    train_end: date
    test_start: date
    test_end: date
    train_bars: int
    test_bars: int
    sharpe: float | None
    sharpe_zero_cost: float | None
    total_return: float | None
    max_drawdown: float | None
    volatility: float | None
    turnover: float | None
    cost: float | None
    trades: float | None
    exposure: float | None
    seconds: float | None
    returns_path: str | None = None  # Parquet file, relative to the study's folder
    forced_exits: float | None = None  # of the trades; None: written before it was stored
    reward_active_share: float | None = None  # of the training steps; None: the reward has no bounds
    max_drawdown_bars: float | None = None  # over bar closes; None: written before it was stored
    sharpe_in_sample: float | None = None  # of the same policy on its own train span
    largest_exposure: float | None = None  # largest sum of |weights| at a bar close
    liquidations: float | None = None  # bars on which the maintenance margin closed the positions
    trained_steps: float | None = None  # of the training; None: written before it was stored
    sharpe_validation: float | None = None  # of the weights on the validation tail; None: there is none
    gate: str | None = None  # the first that blocks the windows up to this one


@dataclass(frozen=True)
class BaselineRecord:
    """Score of a policy without a model on the windows of a study."""

    study_name: str
    timeframe: str
    name: str
    score: float | None
    sharpe_zero_cost: float | None
    total_return: float | None
    cost: float | None
    turnover: float | None
    windows: Any = None  # sessions and returns of each; and whether buy-and-hold was bought anew each session
    seeds: int | None = None  # random policies behind the row; None: it is a single policy
    score_low: float | None = None  # 5 % of their scores
    score_high: float | None = None  # 95 %
    scores: Any = None  # of each of them, rising, None first

    @property
    def bought_anew(self) -> bool:
        """Return whether it buys again in each session, as sessions end flat; False for older records."""
        return bool((self.windows or {}).get("bought_anew"))


@dataclass(frozen=True)
class ExportRecord:
    """One exported bundle."""

    bundle: str
    study_name: str
    trial_number: int
    run_uuid: str
    rank: int
    score: float
    manifest_sha256: str
    exported_at: datetime = field(default_factory=clock.now)


SCORE_ERROR = "score_error"  # in the metrics of a run: its standard_error is of the score, not of a mean


def save_study(conn: Connection, study: StudyRecord) -> StudyRecord:
    """Store a study unless one of its name is stored; return the stored one."""
    insert_if_absent(conn, STUDIES, values_of(study))
    return load_one(conn, StudyRecord, STUDIES, study_name=study.study_name)


def load_study(conn: Connection, name: str) -> StudyRecord | None:
    """Return a study, or None where there is none of that name."""
    return next(iter(load_rows(conn, StudyRecord, STUDIES, where(STUDIES, study_name=name))), None)


def load_cap(conn: Connection, name: str) -> int | None:
    """Return the number of trials that a study may reach in all, or None where there is none of that name."""
    return conn.execute(select(STUDIES.c.n_trials).where(STUDIES.c.study_name == name)).scalar()


def set_cap(conn: Connection, name: str, n_trials: int) -> None:
    """Set the number of trials that a study may reach in all."""
    require(n_trials >= 0, "n_trials", n_trials, ">= 0")
    changed = conn.execute(update(STUDIES).where(STUDIES.c.study_name == name).values(n_trials=n_trials))
    if changed.rowcount == 0:
        raise BadInputError(f"name={name!r}: this database has no such study: `walkforge status` lists them")


def follow_launch(conn: Connection, study: StudyRecord) -> None:
    """Store cap, limits, spec and versions of the latest launch, which workers that join will follow."""
    set_cap(conn, study.study_name, study.n_trials)
    launched = {"max_failures": study.max_failures, "spec": study.spec, "versions": study.versions}
    conn.execute(update(STUDIES).where(STUDIES.c.study_name == study.study_name).values(**launched))


def forget_study(conn: Connection, name: str) -> None:
    """Move the records of a study, without exports, to wf_trash: a new study of its name starts empty."""
    why = f"study {name} was deleted by other means than Walkforge's"
    of_study = {"name": name}
    # Leases first, as every writer locks them first: a run that still writes is waited for, and then fenced.
    move_aside(conn, LEASES.name, "study_name = :name", why, of_study)
    finalists = "run_uuid IN (SELECT run_uuid FROM wf_finalist_runs WHERE study_name = :name)"
    runs = f"run_uuid IN (SELECT run_uuid FROM wf_runs WHERE study_name = :name) OR {finalists}"
    for table in (WINDOWS, SESSION_RETURNS):
        move_aside(conn, table.name, runs, why, of_study)
    for table in (FINALIST_STRESS, FINALIST_HOLDOUTS):
        move_aside(conn, table.name, finalists, why, of_study)
    of_runs = (RUNS, FINALIST_RUNS, FINALISTS, TEST_SESSIONS, BASELINES, PROBES, LUCK, LUCK_TESTS)
    for table in (*of_runs, EVENTS, STUDIES):
        move_aside(conn, table.name, "study_name = :name", why, of_study)


def save_baselines(conn: Connection, baselines: Iterable[BaselineRecord]) -> None:
    """Store the baselines of a study, in place of those of the same names."""
    for baseline in baselines:
        replace_row(conn, BASELINES, values_of(baseline))


def load_baselines(conn: Connection, study: str) -> list[BaselineRecord]:
    """Return the baselines of a study, by timeframe and name."""
    found = load_rows(conn, BaselineRecord, BASELINES, where(BASELINES, study_name=study))
    return sorted(found, key=lambda each: (each.timeframe, each.name))  # a server may sort by a language


def random_levels(
    baselines: Iterable[BaselineRecord], timeframe: str
) -> list[tuple[float, Sequence[float | None]]]:
    """Return (turnover, scores) of each random baseline of a timeframe."""
    mine = (each for each in baselines if each.timeframe == timeframe and each.scores)
    return [(each.turnover or 0.0, each.scores) for each in mine]


def save_export(conn: Connection, export: ExportRecord) -> None:
    """Store an export by its absolute path, in place of an earlier one to the same folder."""
    absolute = os.path.abspath(export.bundle)
    replace_row(conn, EXPORTS, values_of(replace(export, bundle=absolute)))


def load_exports(conn: Connection, study: str) -> list[ExportRecord]:
    """Return the exports of a study, by rank."""
    rows = where(EXPORTS, study_name=study).order_by(EXPORTS.c.rank, EXPORTS.c.bundle)
    return load_rows(conn, ExportRecord, EXPORTS, rows)


def forget_exports(conn: Connection, bundles: Iterable[str]) -> None:
    """Move the records of bundles that are no longer where they were to wf_trash."""
    for bundle in bundles:
        move_aside(conn, EXPORTS.name, "bundle = :bundle", "its folder is gone", {"bundle": bundle})


def newest_trial(conn: Connection, study: str) -> int:
    """Return the highest trial number that a run of a study was for, or -1."""
    newest = conn.execute(select(func.max(RUNS.c.trial_number)).where(RUNS.c.study_name == study)).scalar()
    return -1 if newest is None else int(newest)
