"""Table of the results of finalists on the holdout of their study."""

from alembic import op
from sqlalchemy import Column, Float, String, Text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_REAL = ("score", "sharpe", "total_return", "max_drawdown", "cost", "turnover", "trades", "buy_and_hold")


def upgrade() -> None:
    """Create the table, empty: `walkforge finalists holdout=true` fills it."""
    op.create_table(
        "wf_finalist_holdouts",
        Column("run_uuid", Text, primary_key=True),
        *(Column(name, String, nullable=False) for name in ("first", "end")),
        *(Column(name, Float) for name in _REAL),
        Column("reason", Text),
        Column("opened_at", String, nullable=False),
        if_not_exists=True,
    )
