"""Ended runs of a study: states, failures and files, as the failure report and the doctor read them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, text, update

from optimize.results.states import FINISHED, FailureKind, RunState
from optimize.results.tables import RUNS, WINDOWS

RunEnd = tuple[int, RunState, str | None, str | None]  # trial number, state, kind and message of a failure
_FAILURE = (RUNS.c.trial_number, RUNS.c.state, RUNS.c.failure_kind, RUNS.c.failure_message)
_WINDOW = (WINDOWS.c.run_uuid, WINDOWS.c.window, WINDOWS.c.repeat)


class LastEnded(NamedTuple):
    """State, failure and end of a run."""

    state: RunState
    failure_kind: str | None
    failure_message: str | None
    finished_at: datetime


def count_stale(conn: Connection, study: str) -> int:
    """Return the number of trials that failed as `stale`, which count against no limit."""
    stale = (
        RUNS.c.study_name == study,
        RUNS.c.state == RunState.FAIL,
        RUNS.c.failure_kind == FailureKind.STALE,
    )
    return int(conn.execute(select(func.count()).where(*stale)).scalar_one())


def newest_ended(conn: Connection, study: str, after: int = -1, limit: int | None = None) -> list[RunEnd]:
    """Return the newest ended trials with a number above `after`, oldest first."""
    # The sum keeps the planner from the index on numbers: by time it reads only the newest rows.
    ended = (RUNS.c.study_name == study, RUNS.c.trial_number + 0 > after, RUNS.c.state.in_(FINISHED))
    newest = select(*_FAILURE).where(*ended).order_by(RUNS.c.finished_at.desc(), RUNS.c.trial_number.desc())
    rows = conn.execute(newest if limit is None else newest.limit(limit))
    return [(row[0], row[1], row[2], row[3]) for row in rows][::-1]


def ended_by_trial(conn: Connection, study: str) -> list[RunEnd]:
    """Return every ended run of a study by trial and attempt, retried ones included."""
    ended = RUNS.c.state.in_((*FINISHED, RunState.RETRIED))
    rows = select(*_FAILURE).where(RUNS.c.study_name == study, ended)
    ordered = conn.execute(rows.order_by(RUNS.c.trial_number, RUNS.c.attempt))
    return [(row[0], row[1], row[2], row[3]) for row in ordered]


def last_ended(conn: Connection, study: str) -> LastEnded | None:
    """Return the run of a study that ended last, or None where none has ended."""
    newest = select(RUNS.c.state, RUNS.c.failure_kind, RUNS.c.failure_message, RUNS.c.finished_at)
    newest = newest.where(RUNS.c.study_name == study, RUNS.c.finished_at.is_not(None))
    row = conn.execute(newest.order_by(RUNS.c.finished_at.desc()).limit(1)).one_or_none()
    return None if row is None else LastEnded(*row)


def numbers_and_uuids(conn: Connection, study: str) -> list[tuple[int, str]]:
    """Return trial number and uuid of every run of a study."""
    rows = conn.execute(select(RUNS.c.trial_number, RUNS.c.run_uuid).where(RUNS.c.study_name == study))
    return [(row.trial_number, row.run_uuid) for row in rows]


def stored_texts(conn: Connection, study: str) -> list[tuple[int, Sequence[object]]]:
    """Return the trial number of every run with the texts of its JSON columns as they are stored."""
    columns = [column.name for column in RUNS.columns if column.name.endswith("_json")]
    selected = ", ".join(f'"{name}"' for name in columns)
    rows = text(f"SELECT trial_number, {selected} FROM wf_runs WHERE study_name = :name")
    return [(row[0], tuple(row[1:])) for row in conn.execute(rows, {"name": study})]


def windows_with_returns(conn: Connection, study: str) -> list[Any]:
    """Return the windows of ended trials whose returns lie in a file, with the trial number."""
    ended = (RUNS.c.study_name == study, RUNS.c.state.in_(FINISHED), WINDOWS.c.returns_path.is_not(None))
    rows = select(*_WINDOW, WINDOWS.c.returns_path, RUNS.c.trial_number)
    return list(conn.execute(rows.join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid).where(*ended)))


def windows_without_returns(conn: Connection) -> set[tuple[Any, ...]]:
    """Return run, window and repeat of the windows that have no file of returns."""
    rows = conn.execute(select(*_WINDOW).where(WINDOWS.c.returns_path.is_(None)))
    return {tuple(row) for row in rows}


def set_returns(conn: Connection, run_uuid: str, window: int, repeat: int, path: str | None) -> None:
    """Set the path of the returns of a window; None records that they are lost."""
    of_window = (WINDOWS.c.run_uuid == run_uuid, WINDOWS.c.window == window, WINDOWS.c.repeat == repeat)
    conn.execute(update(WINDOWS).where(*of_window).values(returns_path=path))
