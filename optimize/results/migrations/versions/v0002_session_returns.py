"""Tables of the session returns of each window, which older versions wrote into files alone."""

from alembic import op
from sqlalchemy import Column, Integer, PrimaryKeyConstraint, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the returns of earlier runs stay in their files."""
    op.create_table(
        "wf_returns",
        Column("run_uuid", Text, nullable=False),
        Column("window", Integer, nullable=False),
        Column("repeat", Integer, nullable=False),
        Column("returns_json", Text),
        PrimaryKeyConstraint("run_uuid", "window", "repeat"),
        if_not_exists=True,
    )
    op.create_table(
        "wf_sessions",
        Column("study_name", Text, nullable=False),
        Column("window", Integer, nullable=False),
        Column("sessions_json", Text),
        PrimaryKeyConstraint("study_name", "window"),
        if_not_exists=True,
    )
