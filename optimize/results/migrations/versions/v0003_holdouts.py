"""Table of the holdouts that are kept across studies, and the result of each opening."""

from alembic import op
from sqlalchemy import Column, Float, Integer, String, Text, inspect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: the holdouts of earlier studies are kept from their next launch on."""
    op.create_table(
        "wf_holdouts",
        Column("holdout_id", Integer, primary_key=True, autoincrement=True),
        Column("instruments_json", Text),
        Column("first", String, nullable=False),
        Column("end", String, nullable=False),
        Column("study_name", Text, nullable=False),
        Column("cut_at", String, nullable=False),
        Column("spent_at", String),
        if_not_exists=True,
    )
    stored = inspect(op.get_bind())
    if "score" not in {column["name"] for column in stored.get_columns("wf_holdout_openings")}:
        op.add_column("wf_holdout_openings", Column("score", Float))
