"""Storing and loading of runs and their windows.

A run writes only while it holds the lease of its trial; storing the same again changes nothing.
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from optimize import clock
from optimize.errors import StaleRunError
from optimize.hashing import hash_object
from optimize.results.leases import Lease, abandon, check_token, fence
from optimize.results.records import Outcome, RunRecord, WindowRecord
from optimize.results.rows import (
    insert_if_absent,
    load_one,
    load_rows,
    replace_row,
    stored_columns,
    values_of,
    where,
)
from optimize.results.states import COUNTED, FINISHED, RunState
from optimize.results.tables import METRIC_COLUMNS, RUNS, WINDOWS


def start_run(conn: Connection, lease: Lease, run: RunRecord) -> RunRecord:
    """Store a run that starts under its lease, as the next attempt at its trial."""
    _check(conn, lease, run.run_uuid)
    of_trial = (RUNS.c.study_name == lease.study_name, RUNS.c.trial_number == lease.trial_number)
    earlier = (*of_trial, RUNS.c.run_uuid != run.run_uuid)
    attempt = 1 + (conn.execute(select(func.max(RUNS.c.attempt)).where(*earlier)).scalar() or 0)
    of_set = {"attempt": attempt, "parameter_set": parameter_set(run.parameters)}
    insert_if_absent(conn, RUNS, values_of(run) | of_set)
    return load_one(conn, RunRecord, RUNS, run_uuid=run.run_uuid)


def save_window(conn: Connection, lease: Lease, window: WindowRecord) -> None:
    """Store a finished window of the run that holds the lease."""
    _check(conn, lease, window.run_uuid)
    replace_row(conn, WINDOWS, values_of(window))


def adopt_windows(
    conn: Connection, lease: Lease, whole: Callable[[WindowRecord], bool] = lambda window: True
) -> list[WindowRecord]:
    """Copy the finished windows of earlier runs of this trial to the run that took over; return its windows.

    The newest copy of a window whose files are `whole` counts; a window without one runs again.
    """
    check_token(conn, lease.study_name, lease.trial_number, lease.run_uuid, lease.token)
    of_trial = (RUNS.c.study_name == lease.study_name, RUNS.c.trial_number == lease.trial_number)
    finished = select(WINDOWS).join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid)
    finished = finished.where(*of_trial, RUNS.c.state.in_((RunState.LOST, RunState.RETRIED))).order_by(
        RUNS.c.attempt.desc()
    )
    for window in load_rows(conn, WindowRecord, WINDOWS, finished):
        if whole(window):  # a row of the same window from a newer run is kept
            insert_if_absent(conn, WINDOWS, {**values_of(window), "run_uuid": lease.run_uuid})
    return windows_of(conn, lease.run_uuid)


def finish_run(conn: Connection, lease: Lease, outcome: Outcome) -> RunRecord:
    """Store the outcome of a run and return the stored run, whose outcome the trial must get.

    The first outcome counts: a finished run is returned unchanged.
    """
    try:
        _check(conn, lease, lease.run_uuid)
    except StaleRunError:
        stored = load_run(conn, lease.run_uuid)
        if stored is None or stored.state not in FINISHED:
            raise
        return stored
    return _finish(conn, lease.run_uuid, outcome)


def fail_run(conn: Connection, lease: Lease, kind: str, message: str) -> RunRecord:
    """Fence a run whose worker was killed, store its failure and return the stored run.

    The caller then finishes the trial under the study lock and releases the lease. A run with an outcome
    keeps it; raises StaleRunError where another run holds the trial.
    """
    fence(conn, lease)
    seconds = seconds_of(conn, lease.run_uuid)
    return _finish(
        conn, lease.run_uuid, Outcome(RunState.FAIL, seconds, failure_kind=kind, failure_message=message)
    )


def retry_run(conn: Connection, lease: Lease, outcome: Outcome) -> RunRecord:
    """Store the failure of a run, give its trial back to be run again at once, and return the stored run.

    A run with an outcome keeps it; raises StaleRunError where another run holds the trial.
    """
    try:
        _check(conn, lease, lease.run_uuid)
    except StaleRunError:
        stored = load_run(conn, lease.run_uuid)
        if stored is None or stored.state not in (*FINISHED, RunState.RETRIED):
            raise
        return stored
    run = _finish(conn, lease.run_uuid, outcome, RunState.RETRIED)
    if run.state == RunState.RETRIED:
        abandon(conn, lease)
    return run


def retried(conn: Connection, study: str, number: int) -> set[str]:
    """Return the kinds of the failures for which a trial was given back to be tried again."""
    of_trial = (RUNS.c.study_name == study, RUNS.c.trial_number == number, RUNS.c.state == RunState.RETRIED)
    return set(conn.execute(select(RUNS.c.failure_kind).where(*of_trial)).scalars())


def short_since(conn: Connection, lease: Lease, kinds: Collection[str]) -> datetime | None:
    """Return when the run's trial was first given back for one of these kinds since its last window."""
    done = select(func.count()).where(WINDOWS.c.run_uuid == RUNS.c.run_uuid).scalar_subquery()
    of_trial = (RUNS.c.study_name == lease.study_name, RUNS.c.trial_number == lease.trial_number)
    given_back = (RUNS.c.state == RunState.RETRIED, RUNS.c.failure_kind.in_(list(kinds)))
    mine = select(func.count()).where(WINDOWS.c.run_uuid == lease.run_uuid).scalar_subquery()
    since = select(RUNS.c.finished_at).where(*of_trial, *given_back, done >= mine)
    return conn.execute(since.order_by(RUNS.c.attempt).limit(1)).scalar()


def count_counted(conn: Connection, study: str) -> int:
    """Return how many runs of a study ended as trials that count in its cap."""
    ended = RUNS.c.state.in_(COUNTED)
    return int(conn.execute(select(func.count()).where(RUNS.c.study_name == study, ended)).scalar_one())


def count_gated(conn: Connection, study: str) -> dict[str, int]:
    """Return how many ended trials of a study each gate blocks, the most frequent gate first."""
    if RUNS.c.gate not in stored_columns(conn, RUNS):  # an older version made the table
        return {}
    blocked = (RUNS.c.study_name == study, RUNS.c.state == RunState.COMPLETE, RUNS.c.gate.is_not(None))
    counted = select(RUNS.c.gate, func.count()).where(*blocked).group_by(RUNS.c.gate)
    rows = conn.execute(counted.order_by(func.count().desc(), RUNS.c.gate))
    return {gate: number for gate, number in rows}


def set_random_quantile(conn: Connection, run_uuid: str, quantile: float | None) -> None:
    """Store the share of random policies of a run's own turnover that score lower."""
    conn.execute(update(RUNS).where(RUNS.c.run_uuid == run_uuid).values(random_quantile=quantile))


def seconds_of(conn: Connection, run_uuid: str) -> float:
    """Return the seconds since a run started."""
    run = load_run(conn, run_uuid)
    return 0.0 if run is None else max(0.0, (clock.now() - run.started_at).total_seconds())


def load_run(conn: Connection, run_uuid: str) -> RunRecord | None:
    """Return a run, or None where there is none of that uuid."""
    return next(iter(load_rows(conn, RunRecord, RUNS, where(RUNS, run_uuid=run_uuid))), None)


def run_of_trial(conn: Connection, study: str, number: int) -> RunRecord | None:
    """Return the run that finished a trial, or None while there is none."""
    return next(iter(finished_runs(conn, study, [number])), None)


def windows_of(conn: Connection, run_uuid: str) -> list[WindowRecord]:
    """Return the windows of a run, by window and repeat."""
    rows = where(WINDOWS, run_uuid=run_uuid).order_by(WINDOWS.c.window, WINDOWS.c.repeat)
    return load_rows(conn, WindowRecord, WINDOWS, rows)


def windows_of_study(conn: Connection, study: str) -> dict[str, list[WindowRecord]]:
    """Return the windows of every run of a study, by run and then by window and repeat (none: empty)."""
    runs = select(RUNS.c.run_uuid).where(RUNS.c.study_name == study)
    rows = select(WINDOWS).where(WINDOWS.c.run_uuid.in_(runs))
    found: dict[str, list[WindowRecord]] = {uuid: [] for uuid in conn.execute(runs).scalars()}
    for window in load_rows(conn, WindowRecord, WINDOWS, rows.order_by(WINDOWS.c.window, WINDOWS.c.repeat)):
        found[window.run_uuid].append(window)
    return found


def with_windows(conn: Connection, study: str, numbers: Collection[int]) -> set[int]:
    """Return those of the trials of which some run finished a window."""
    done = select(RUNS.c.trial_number).join(WINDOWS, WINDOWS.c.run_uuid == RUNS.c.run_uuid)
    of_study = done.where(RUNS.c.study_name == study, RUNS.c.trial_number.in_(sorted(numbers)))
    return set(conn.execute(of_study.distinct()).scalars())


def parameter_set(parameters: Mapping[str, Any]) -> str:
    """Return the hash of a parameter set; 1 and 1.0 are equal, and the order of keys does not matter."""
    return hash_object(_alike(parameters))


def fill_parameter_sets(conn: Connection, study: str) -> None:
    """Store the parameter set of runs that an older version wrote."""
    missing = (RUNS.c.study_name == study, RUNS.c.parameter_set.is_(None))
    for uuid, parameters in conn.execute(select(RUNS.c.run_uuid, RUNS.c.parameters).where(*missing)).all():
        found = parameter_set(parameters or {})
        conn.execute(update(RUNS).where(RUNS.c.run_uuid == uuid).values(parameter_set=found))


def rank_sets(conn: Connection, study: str, limit: int, by: str = "median") -> list[str]:
    """Return the best parameter sets of a study, best first: by their `median` run, or by their `highest`.

    The median is the lower one, and a run that was PRUNED or that a gate blocks counts below every score, as
    in the view best_models.
    """
    ended = RUNS.c.state.in_(COUNTED)
    score = case(((RUNS.c.state == RunState.COMPLETE) & RUNS.c.gate.is_(None), RUNS.c.score))
    rising = (score.nulls_first(), RUNS.c.trial_number)
    runs = func.count().over(partition_by=RUNS.c.parameter_set)
    place = (runs + 1) // 2 if by == "median" else runs
    columns = (
        RUNS.c.parameter_set,
        RUNS.c.trial_number,
        score.label("score"),
        place.label("place"),
        func.row_number().over(partition_by=RUNS.c.parameter_set, order_by=rising).label("rank"),
    )
    ranked = select(*columns).where(RUNS.c.study_name == study, RUNS.c.parameter_set.is_not(None), ended)
    sets = ranked.subquery()
    chosen = select(sets.c.parameter_set).where(sets.c.rank == sets.c.place, sets.c.score.is_not(None))
    return list(
        conn.execute(chosen.order_by(sets.c.score.desc(), sets.c.trial_number).limit(limit)).scalars()
    )


def surplus_runs(conn: Connection, run: RunRecord, kept: int) -> list[tuple[int, str]]:
    """Return (trial number, run uuid) of complete runs whose weights are deleted after a run ended.

    All runs of the best `kept` parameter sets are kept, ranked by their median and by their highest run,
    because the median run of a set can change until its last run ended.
    """
    scored = (RUNS.c.study_name == run.study_name, RUNS.c.state == RunState.COMPLETE)
    if conn.execute(select(func.count()).where(*scored)).scalar_one() <= kept:
        return []
    ranked = [rank_sets(conn, run.study_name, kept + 1, by) for by in ("median", "highest")]
    best = {name for names in ranked for name in names[:kept]}
    changed = {name for names in ranked for name in names} | {parameter_set(run.parameters)}
    of_sets = (RUNS.c.study_name == run.study_name, RUNS.c.parameter_set.in_(sorted(changed - best)))
    surplus = select(RUNS.c.trial_number, RUNS.c.run_uuid).where(*of_sets, RUNS.c.state == RunState.COMPLETE)
    return [(number, uuid) for number, uuid in conn.execute(surplus.order_by(RUNS.c.trial_number))]


def finished_runs(conn: Connection, study: str, running: Collection[int] | None = None) -> list[RunRecord]:
    """Return the last run of each trial that it finished; `running` limits this to the given trials.

    With the trials that Optuna counts as running, these are the runs whose outcome Optuna lacks.
    """
    last = select(RUNS.c.trial_number, func.max(RUNS.c.attempt).label("attempt")).group_by(
        RUNS.c.trial_number
    )
    chosen = last.where(RUNS.c.study_name == study)
    if running is not None:
        chosen = chosen.where(RUNS.c.trial_number.in_(sorted(running)))
    newest = chosen.subquery()
    same = (RUNS.c.trial_number == newest.c.trial_number) & (RUNS.c.attempt == newest.c.attempt)
    rows = select(RUNS).join(newest, same).where(RUNS.c.study_name == study, RUNS.c.state.in_(FINISHED))
    return load_rows(conn, RunRecord, RUNS, rows.order_by(RUNS.c.trial_number))


def runs_alike(conn: Connection, run: RunRecord) -> list[RunRecord]:
    """Return the runs of other studies with the parameters of a run, those that ended first."""
    alike = (RUNS.c.parameter_set == parameter_set(run.parameters), RUNS.c.study_name != run.study_name)
    rows = select(RUNS).where(*alike, RUNS.c.state.in_(COUNTED)).order_by(RUNS.c.finished_at)
    return load_rows(conn, RunRecord, RUNS, rows)


def _alike(value: Any) -> Any:
    """Return parameters with every number as a float, so that equal ones have equal text."""
    if isinstance(value, Mapping):
        return {str(key): _alike(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_alike(part) for part in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return float(value) + 0.0 if math.isfinite(value) else str(value)


def _check(conn: Connection, lease: Lease, run_uuid: str) -> None:
    """Raise StaleRunError unless a run holds its trial."""
    check_token(conn, lease.study_name, lease.trial_number, run_uuid, lease.token)


def _finish(conn: Connection, run_uuid: str, outcome: Outcome, state: RunState | None = None) -> RunRecord:
    """Store the outcome of a run that has none yet, with another state if given; return the stored run."""
    unfinished = (RUNS.c.run_uuid == run_uuid, RUNS.c.state.not_in((*FINISHED, RunState.RETRIED)))
    columns = {name: outcome.metrics.get(name) for name in METRIC_COLUMNS}
    ended = {"state": state or outcome.state, "finished_at": clock.now()}
    conn.execute(update(RUNS).where(*unfinished).values({**values_of(outcome), **columns, **ended}))
    return load_one(conn, RunRecord, RUNS, run_uuid=run_uuid)
