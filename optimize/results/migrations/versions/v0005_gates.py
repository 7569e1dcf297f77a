"""Columns of the gate that blocks a run, of the flags of its result, and of in-sample figures by window."""

from alembic import op
from sqlalchemy import Column, Float, Text, inspect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ADDED_COLUMNS = {
    "wf_runs": (("gate", Text), ("flags", Text)),
    "wf_windows": (
        ("sharpe_in_sample", Float),
        ("largest_exposure", Float),
        ("liquidations", Float),
        ("gate", Text),
    ),
}
RANKED = "wf_runs_of_set"
RANKED_BY = ["study_name", "parameter_set", "score", "trial_number", "state", "gate", "run_uuid"]


def upgrade() -> None:
    """Add the columns; runs that have ended are neither blocked nor flagged."""
    stored = inspect(op.get_bind())
    there = set(stored.get_table_names())
    for table, columns in ADDED_COLUMNS.items():
        if table in there:
            names = {column["name"] for column in stored.get_columns(table)}
            for name, kind in columns:
                if name not in names:
                    op.add_column(table, Column(name, kind))
    op.drop_index(RANKED, if_exists=True)
    op.create_index(RANKED, "wf_runs", RANKED_BY, if_not_exists=True)  # it covers the gate from now on
