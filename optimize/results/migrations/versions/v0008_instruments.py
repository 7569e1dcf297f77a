"""Table of the session closes of instruments."""

from alembic import op
from sqlalchemy import Column, Integer, String, Text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, empty: the next launch of a study stores its instruments."""
    op.create_table(
        "wf_instruments",
        Column("instrument_id", Integer, primary_key=True, autoincrement=True),
        Column("instrument", Text, nullable=False),
        Column("same_as_json", Text),
        Column("first", String, nullable=False),
        Column("end", String, nullable=False),
        Column("closes_json", Text),
        Column("stored_at", String, nullable=False),
        if_not_exists=True,
    )
