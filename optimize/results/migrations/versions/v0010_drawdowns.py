"""Column of the deepest drawdown of each session, which older versions did not measure."""

from alembic import op
from sqlalchemy import Column, Text, inspect

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty: the bar closes of earlier runs are not kept."""
    stored = inspect(op.get_bind())
    if "drawdowns_json" not in {column["name"] for column in stored.get_columns("wf_returns")}:
        op.add_column("wf_returns", Column("drawdowns_json", Text))
