"""Orphaned rows, whose trial, run or study no longer exists, and wf_trash, where removed rows stay."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, inspect, select, text

from optimize import clock
from optimize.results.states import TrialState
from optimize.results.tables import FINALIST_RUNS, METADATA, STUDIES, TRASH
from optimize.results.views import OPTUNA_TABLES, refuse_foreign

# NOT IN, as a correlated query would read all trials of a study for each of its rows.
_NO_TRIAL = (
    "(study_name, trial_number) NOT IN "
    "(SELECT s.study_name, t.number FROM trials t JOIN studies s ON s.study_id = t.study_id)"
)
_NO_STUDY = "study_name NOT IN (SELECT s.study_name FROM studies s)"
_NO_RUN = "run_uuid NOT IN (SELECT r.run_uuid FROM wf_runs r)"
_NO_FINALIST = "run_uuid NOT IN (SELECT f.run_uuid FROM wf_finalist_runs f)"
# Leases first, as every writer locks them first; windows after the runs that they belong to.
ORPHANS = {
    "wf_leases": _NO_TRIAL,
    "wf_runs": _NO_TRIAL,
    "wf_finalist_runs": _NO_STUDY,
    "wf_finalists": _NO_STUDY,
    "wf_finalist_stress": _NO_FINALIST,
    "wf_finalist_holdouts": _NO_FINALIST,
    "wf_windows": f"{_NO_RUN} AND {_NO_FINALIST}",
    "wf_returns": f"{_NO_RUN} AND {_NO_FINALIST}",
    "wf_sessions": _NO_STUDY,
    "wf_baselines": _NO_STUDY,
    "wf_probes": _NO_STUDY,
    "wf_luck": _NO_STUDY,
    "wf_luck_tests": _NO_STUDY,
    "wf_events": _NO_STUDY,
    "wf_studies": _NO_STUDY,
}
# Which databases of older versions lack until they are written to.
LATER = {
    "wf_returns", "wf_sessions", "wf_finalists", "wf_finalist_runs", "wf_finalist_stress", "wf_luck",
    "wf_luck_tests", "wf_finalist_holdouts", "wf_probes",
}  # fmt: skip
NEEDED = OPTUNA_TABLES | (ORPHANS.keys() - LATER) | {"wf_exports"}


def missing_tables(conn: Connection) -> set[str] | None:
    """Return the tables that a database with a study lacks, None for one that never had a study.

    A database of another program is refused.
    """
    refuse_foreign(conn)
    there = set(inspect(conn).get_table_names())
    if not there & METADATA.tables.keys():
        return None
    studies = select(func.count()).select_from(STUDIES)
    if not there & OPTUNA_TABLES and STUDIES.name in there and not conn.execute(studies).scalar():
        return None  # `walk-forward` and `evaluate` alone wrote to it
    return NEEDED - there


def has_tables(conn: Connection) -> bool:
    """Return whether a database holds every table of a study; refuse one of another program."""
    return missing_tables(conn) == set()


def count_orphans(conn: Connection) -> dict[str, int]:
    """Return the number of orphaned rows of each table that has some."""
    counts = {
        table: conn.execute(text(f"SELECT COUNT(*) FROM {table} WHERE {condition}")).scalar_one()
        for table, condition in _present(conn).items()
    }
    return {table: count for table, count in counts.items() if count}


def move_orphans(conn: Connection) -> dict[str, int]:
    """Move the orphaned rows to wf_trash; return their number by table."""
    why = "its trial or study was deleted by other means than Walkforge's"
    moved = {table: move_aside(conn, table, condition, why) for table, condition in _present(conn).items()}
    return {table: count for table, count in moved.items() if count}


def _present(conn: Connection) -> dict[str, str]:
    """Return the conditions of orphans of the tables that a database has."""
    lacking = LATER - set(inspect(conn).get_table_names())
    present = {table: condition for table, condition in ORPHANS.items() if table not in lacking}
    if FINALIST_RUNS.name in lacking:
        present["wf_windows"] = _NO_RUN
        if "wf_returns" in present:
            present["wf_returns"] = _NO_RUN
    return present


def renamed_studies(conn: Connection) -> dict[str, str]:
    """Return the stored name of each study that Optuna's tools renamed, with its present name.

    Trials carry the uuid of their run, also after optuna-dashboard renamed the study by copy and delete.
    """
    lost = set(conn.execute(text(f"SELECT study_name FROM wf_studies WHERE {_NO_STUDY}")).scalars())
    if not lost:
        return {}
    unknown = conn.execute(
        text(
            "SELECT s.study_id, s.study_name FROM studies s "
            "WHERE s.study_name NOT IN (SELECT o.study_name FROM wf_studies o) ORDER BY s.study_id"
        )
    ).all()
    found: dict[str, str] = {}
    for study_id, name in unknown:
        uuid = conn.execute(_A_RUN, {"study_id": study_id}).scalar()
        of_run = {"run_uuid": None if uuid is None else str(uuid).strip('"')}
        former = conn.execute(text("SELECT study_name FROM wf_runs WHERE run_uuid = :run_uuid"), of_run)
        if (record := former.scalar()) in lost:
            found.setdefault(str(record), name)
    return found


def rename_back(conn: Connection, record: str, present: str) -> None:
    """Give a study that Optuna's tools renamed its stored name again."""
    names = {"record": record, "present": present}
    conn.execute(text("UPDATE studies SET study_name = :record WHERE study_name = :present"), names)


_A_RUN = text(
    "SELECT a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study_id AND a.key = 'run_uuid' ORDER BY t.number LIMIT 1"
)


def drop_values(conn: Connection, study: str) -> int:
    """Delete the values of a study's PRUNED and FAIL trials and return their number.

    Optuna's own storage gives a PRUNED trial its last intermediate value.
    """
    ended = (
        "SELECT t.trial_id FROM trials t JOIN studies s ON s.study_id = t.study_id "
        "WHERE s.study_name = :name AND t.state IN ('PRUNED', 'FAIL')"
    )
    found = conn.execute(text(f"DELETE FROM trial_values WHERE trial_id IN ({ended})"), {"name": study})
    return int(found.rowcount)


def trial_states(conn: Connection, study: str) -> dict[int, TrialState]:
    """Return the state of each trial of a study in Optuna's tables, by number."""
    rows = text(
        "SELECT t.number, CAST(t.state AS TEXT) FROM trials t JOIN studies s ON s.study_id = t.study_id "
        "WHERE s.study_name = :name"
    )
    return {number: TrialState(state) for number, state in conn.execute(rows, {"name": study})}


def stored_studies(conn: Connection) -> dict[str, int]:
    """Return the id of each study in Optuna's tables by its name, oldest first."""
    rows = conn.execute(text("SELECT study_name, study_id FROM studies ORDER BY study_id"))
    return {name: number for name, number in rows}


AT_ONCE = 500  # rows that are moved by one statement


def move_aside(
    conn: Connection, table: str, condition: str, why: str, values: Mapping[str, Any] | None = None
) -> int:
    """Move the rows of a table that meet an SQL condition to wf_trash; return their number.

    Values are stored as the database holds them, without decoding, so that damaged rows can move as well.
    """
    given, where = dict(values or {}), f"FROM {table} WHERE {condition}"
    found = conn.execute(text(f"SELECT * {where}"), given).mappings().all()
    at = clock.now()
    rows = [
        {"at": at, "table_name": table, "why": why, "row_json": json.dumps(dict(row), default=str)}
        for row in found
    ]
    for first in range(0, len(rows), AT_ONCE):
        conn.execute(insert(TRASH), rows[first : first + AT_ONCE])
    conn.execute(text(f"DELETE {where}"), given)
    return len(rows)


def put_back(conn: Connection, table: str) -> int:
    """Move the rows of a table whose key is free back from wf_trash; return their number."""
    rows = conn.execute(TRASH.select().where(TRASH.c.table_name == table).order_by(TRASH.c.trash_id)).all()
    names = {column.name for column in METADATA.tables[table].columns}
    moved = 0
    for row in rows:
        stored = {name: value for name, value in json.loads(row.row_json).items() if name in names}
        columns, places = ", ".join(f'"{n}"' for n in stored), ", ".join(f":{n}" for n in stored)
        put = text(f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING")
        if conn.execute(put, stored).rowcount:
            conn.execute(TRASH.delete().where(TRASH.c.trash_id == row.trash_id))
            moved += 1
    return moved
