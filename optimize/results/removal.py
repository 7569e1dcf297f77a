"""Rows that a deleted study leaves behind, and the runs whose files can be freed."""

import json
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    delete,
    func,
    inspect,
    select,
    text,
    union_all,
    update,
)

from optimize.database import has_table
from optimize.results.states import FINISHED
from optimize.results.tables import (
    EXPORTS,
    FINALIST_RUNS,
    HOLDOUT_OPENINGS,
    HOLDOUTS,
    INSTRUMENTS,
    LEASES,
    METADATA,
    RUNS,
    SESSION_RETURNS,
    TRIED_RUNS,
    WINDOWS,
)

# These rows stay: deleting a study makes no bar unseen and no try undone.
KEPT = (
    TRIED_RUNS,
    HOLDOUTS,
    HOLDOUT_OPENINGS,
    INSTRUMENTS,
)


_ARTIFACTS = text(
    "SELECT a.value_json FROM study_system_attributes a JOIN studies s ON s.study_id = a.study_id "
    "WHERE s.study_name = :study AND a.key LIKE :keys ORDER BY a.key"
)


class LowerRun(NamedTuple):
    """A run below the kept ranks, whose trial has ended."""

    trial_number: int
    run_uuid: str
    returns_stored: bool  # its session returns are in the database, or it has none


def count_rows(conn: Connection, study: str, exports: bool) -> dict[str, int]:
    """Return the number of rows of a study by table; those of its exports only where `exports` is true."""
    found = {
        table.name: conn.execute(select(func.count()).select_from(table).where(rows)).scalar_one()
        for table, rows in _rows_of(conn, study, exports)
    }
    return {table: count for table, count in found.items() if count}


def delete_rows(conn: Connection, study: str, exports: bool) -> None:
    """Delete the rows of a study from the tables of Walkforge; tries and holdouts stay."""
    for table, rows in _rows_of(conn, study, exports):
        conn.execute(delete(table).where(rows))


def _rows_of(conn: Connection, study: str, exports: bool) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return the tables that hold rows of a study with the condition for them, in the order of deletion.

    Leases come first, as every writer locks them first, and rows of a run before the run.
    """
    there = set(inspect(conn).get_table_names())
    parts = [
        select(table.c.run_uuid).where(table.c.study_name == study)
        for table in (RUNS, FINALIST_RUNS)
        if table.name in there
    ]
    runs = union_all(*parts)
    kept = KEPT if exports else (*KEPT, EXPORTS)
    tables = [table for table in METADATA.sorted_tables if table.name in there and table not in kept]
    named = [(table, table.c.study_name == study) for table in tables if "study_name" in table.columns]
    of_runs = [
        (table, table.c.run_uuid.in_(runs))
        for table in tables
        if "run_uuid" in table.columns and "study_name" not in table.columns
    ]
    leases = [pair for pair in named if pair[0] is LEASES]
    return [*leases, *of_runs, *(pair for pair in named if pair[0] is not LEASES)]


def artifact_ids(conn: Connection, study: str) -> list[str]:
    """Return the ids of the files that optuna-dashboard shows with the trials of a study."""
    values = {"study": study, "keys": "dashboard:artifacts:%"}
    entries = [json.loads(json.loads(value)) for value in conn.execute(_ARTIFACTS, values).scalars()]
    return [str(entry["artifact_id"]) for entry in entries if entry is not None]  # null: removed on its page


def lower_runs(conn: Connection, study: str, kept: set[str | None]) -> list[LowerRun]:
    """Return the runs of ended trials of other parameter sets than those of the kept runs."""
    columns = (RUNS.c.trial_number, RUNS.c.run_uuid, RUNS.c.parameter_set, RUNS.c.state)
    of_study = select(*columns).where(RUNS.c.study_name == study)
    runs = conn.execute(of_study.order_by(RUNS.c.trial_number, RUNS.c.attempt)).all()
    sets = {run.parameter_set or run.trial_number for run in runs if run.run_uuid in kept}
    # The files of a lost run serve the run that takes its trial over, until the trial has ended.
    ended = {run.trial_number for run in runs if run.state in FINISHED}
    lacking = _without_stored_returns(conn, study)
    return [
        LowerRun(run.trial_number, run.run_uuid, run.state not in FINISHED or run.run_uuid not in lacking)
        for run in runs
        if run.trial_number in ended and (run.parameter_set or run.trial_number) not in sets
    ]


def _without_stored_returns(conn: Connection, study: str) -> set[str]:
    """Return the runs with a window whose session returns are in a file alone."""
    of_study = select(WINDOWS.c.run_uuid).join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid)
    of_study = of_study.where(RUNS.c.study_name == study, WINDOWS.c.returns_path.is_not(None))
    if has_table(conn, SESSION_RETURNS.name):
        same = (
            (SESSION_RETURNS.c.run_uuid == WINDOWS.c.run_uuid)
            & (SESSION_RETURNS.c.window == WINDOWS.c.window)
            & (SESSION_RETURNS.c.repeat == WINDOWS.c.repeat)
        )
        of_study = of_study.outerjoin(SESSION_RETURNS, same).where(SESSION_RETURNS.c.run_uuid.is_(None))
    return set(conn.execute(of_study).scalars())


def forget_return_files(conn: Connection, run_uuid: str) -> None:
    """Record that the windows of a run have no file of returns."""
    conn.execute(update(WINDOWS).where(WINDOWS.c.run_uuid == run_uuid).values(returns_path=None))
