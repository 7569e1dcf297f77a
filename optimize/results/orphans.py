"""Rows of our own tables that belong to nothing: their trial, run or study was deleted behind our back."""

from collections.abc import Sequence

from sqlalchemy import Connection, inspect, text

from optimize.results.tables import METADATA
from optimize.results.trash import move_aside
from optimize.results.views import OPTUNA_TABLES, refuse_foreign

# Row by row these would go through all trials of a study for each of its rows.
_NO_TRIAL = (
    "(study_name, trial_number) NOT IN "
    "(SELECT s.study_name, t.number FROM trials t JOIN studies s ON s.study_id = t.study_id)"
)
_NO_STUDY = "study_name NOT IN (SELECT s.study_name FROM studies s)"
_NO_RUN = "run_uuid NOT IN (SELECT r.run_uuid FROM wf_runs r)"
# Leases first, as every writer locks them first; windows after the runs that they belong to.
ORPHANS = {
    "wf_leases": _NO_TRIAL,
    "wf_runs": _NO_TRIAL,
    "wf_windows": _NO_RUN,
    "wf_baselines": _NO_STUDY,
    "wf_events": _NO_STUDY,
    "wf_studies": _NO_STUDY,
}
NEEDED = OPTUNA_TABLES | ORPHANS.keys() | {"wf_exports"}


def missing_tables(conn: Connection) -> set[str] | None:
    """Return the tables that a database with a study lacks, None for one that never had a study.

    A database of another program is refused.
    """
    refuse_foreign(conn)
    there = set(inspect(conn).get_table_names())
    return NEEDED - there if there & METADATA.tables.keys() else None


def has_tables(conn: Connection) -> bool:
    """Say whether a database holds every table of a study; refuse one of another program."""
    return missing_tables(conn) == set()


def count_orphans(conn: Connection) -> dict[str, int]:
    """Return how many rows of each table belong to nothing, tables without any left out."""
    counts = {
        table: conn.execute(text(f"SELECT COUNT(*) FROM {table} WHERE {condition}")).scalar_one()
        for table, condition in ORPHANS.items()
    }
    return {table: count for table, count in counts.items() if count}


def move_orphans(conn: Connection) -> dict[str, int]:
    """Move the rows that belong to nothing to wf_trash and return how many of each table."""
    why = "its trial or study was deleted by other means than Walkforge's"
    moved = {table: move_aside(conn, table, condition, why) for table, condition in ORPHANS.items()}
    return {table: count for table, count in moved.items() if count}


def renamed_studies(conn: Connection) -> dict[str, str]:
    """Return the studies that Optuna's tools have renamed: the name of their records, and the present one.

    The trials carry the uuid of their run, which stays with them in a study that is copied and deleted,
    as optuna-dashboard renames one.
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
    """Give a study that Optuna's tools renamed the name of its records again."""
    names = {"record": record, "present": present}
    conn.execute(text("UPDATE studies SET study_name = :record WHERE study_name = :present"), names)


_A_RUN = text(
    "SELECT a.value_json FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = :study_id AND a.key = 'run_uuid' ORDER BY t.number LIMIT 1"
)


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
