"""Columns of the steps of a training and of its Sharpe ratio on the validation tail."""

from alembic import op
from sqlalchemy import Column, Float, inspect

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty: older versions stored neither."""
    stored = {column["name"] for column in inspect(op.get_bind()).get_columns("wf_windows")}
    for name in ("trained_steps", "sharpe_validation"):
        if name not in stored:
            op.add_column("wf_windows", Column(name, Float))
