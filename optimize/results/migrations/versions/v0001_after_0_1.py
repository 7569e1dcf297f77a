"""Columns, tables and indexes that databases of version 0.1 lack; those store no version.

Development versions after 0.1 wrote some of them, so that each is added only where it is missing. The types
are those that the tables had at this version, also after later changes.
"""

from typing import Any

from alembic import op
from sqlalchemy import Column, Float, Integer, String, Text, inspect
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ADDED_COLUMNS: dict[str, tuple[tuple[str, type[TypeEngine[Any]]], ...]] = {
    "wf_runs": (("max_drawdown_bars", Float), ("parameter_set", Text)),
    "wf_windows": (("forced_exits", Float), ("reward_active_share", Float), ("max_drawdown_bars", Float)),
    "wf_leases": (("supervisor_pid", Integer), ("supervisor_started", Float)),
}
INDEXES = {
    "wf_runs_of_state": ("wf_runs", ("study_name", "trial_number", "state", "attempt")),
    "wf_runs_ended": ("wf_runs", ("study_name", "finished_at")),
    "wf_runs_of_set": (
        "wf_runs",
        ("study_name", "parameter_set", "score", "trial_number", "state", "run_uuid"),
    ),
    "wf_events_of_study": ("wf_events", ("study_name", "kind")),
}
FORMER_INDEXES = ("wf_runs_of_trial", "wf_runs_ranked")  # SQLite read all runs of a study for each trial


def upgrade() -> None:
    """Add the columns, tables and indexes that version 0.1 lacked."""
    stored = inspect(op.get_bind())
    there = set(stored.get_table_names())
    for table, columns in ADDED_COLUMNS.items():
        if table in there:
            names = {column["name"] for column in stored.get_columns(table)}
            for name, kind in columns:
                if name not in names:
                    op.add_column(table, Column(name, kind))
    _create_tables()
    for name, (table, keys) in INDEXES.items():
        if table in there:
            op.create_index(name, table, list(keys), if_not_exists=True)
    for name in FORMER_INDEXES:
        op.drop_index(name, if_exists=True)


def _create_tables() -> None:
    op.create_table(
        "wf_holdout_openings",
        Column("opening_id", Integer, primary_key=True, autoincrement=True),
        Column("symbols_json", Text),
        Column("first", String, nullable=False),
        Column("end", String, nullable=False),
        *(
            Column(name, Text, nullable=False)
            for name in ("study_name", "run_uuid", "bundle", "purpose", "host")
        ),
        Column("opened_at", String, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "wf_trash",
        Column("trash_id", Integer, primary_key=True, autoincrement=True),
        Column("at", String, nullable=False),
        Column("table_name", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("row_json", Text, nullable=False),
        if_not_exists=True,
    )
