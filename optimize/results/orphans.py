"""Rows of our own tables that belong to nothing: their trial, run or study was deleted behind our back."""

from collections.abc import Sequence

from sqlalchemy import Connection, inspect, text

from optimize.results.views import OPTUNA_TABLES, refuse_foreign

_NO_TRIAL = (
    "NOT EXISTS (SELECT 1 FROM trials t JOIN studies s ON s.study_id = t.study_id "
    "WHERE s.study_name = {table}.study_name AND t.number = {table}.trial_number)"
)
_NO_STUDY = "NOT EXISTS (SELECT 1 FROM studies s WHERE s.study_name = {table}.study_name)"
_NO_RUN = "NOT EXISTS (SELECT 1 FROM wf_runs r WHERE r.run_uuid = {table}.run_uuid)"
# Leases first, as every writer locks them first; windows after the runs that they belong to.
ORPHANS = {
    "wf_leases": _NO_TRIAL,
    "wf_runs": _NO_TRIAL,
    "wf_windows": _NO_RUN,
    "wf_baselines": _NO_STUDY,
    "wf_events": _NO_STUDY,
    "wf_studies": _NO_STUDY,
}


def has_tables(conn: Connection) -> bool:
    """Say whether a study was ever stored in this database; refuse one of another program."""
    refuse_foreign(conn)
    return set(inspect(conn).get_table_names()) >= OPTUNA_TABLES | ORPHANS.keys()


def count_orphans(conn: Connection) -> dict[str, int]:
    """Return how many rows of each table belong to nothing, tables without any left out."""
    counts = {
        table: conn.execute(text(f"SELECT COUNT(*) FROM {table} WHERE {_condition(table)}")).scalar_one()
        for table in ORPHANS
    }
    return {table: count for table, count in counts.items() if count}


def drop_orphans(conn: Connection) -> dict[str, int]:
    """Delete the rows that belong to nothing and return how many of each table."""
    dropped = {
        table: conn.execute(text(f"DELETE FROM {table} WHERE {_condition(table)}")).rowcount
        for table in ORPHANS
    }
    return {table: count for table, count in dropped.items() if count}


def _condition(table: str) -> str:
    return ORPHANS[table].format(table=table)


def trial_states(conn: Connection, study: str) -> dict[int, str]:
    """Return what Optuna says of each trial of a study, by number."""
    rows = text(
        "SELECT t.number, CAST(t.state AS TEXT) FROM trials t JOIN studies s ON s.study_id = t.study_id "
        "WHERE s.study_name = :name"
    )
    return {number: state for number, state in conn.execute(rows, {"name": study})}


def stored_studies(conn: Connection) -> Sequence[str]:
    """Return the names of all studies, oldest first."""
    return list(conn.execute(text("SELECT study_name FROM studies ORDER BY study_id")).scalars())
