"""Table of the linear probes of a study, and columns of runs beside them."""

from alembic import op
from sqlalchemy import Column, Float, Integer, PrimaryKeyConstraint, Text, inspect

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_OF_PROBE = ("score", "sharpe_zero_cost", "total_return", "cost", "turnover", "seconds")
_OF_RUN = ("probe_score", "probe_lead", "probe_lead_error")


def upgrade() -> None:
    """Create the table and add the columns, empty: the next trial on the same inputs measures its probe."""
    op.create_table(
        "wf_probes",
        *(Column(name, Text, nullable=False) for name in ("study_name", "inputs", "timeframe")),
        Column("lookback", Integer, nullable=False),
        *(Column(name, Float) for name in _OF_PROBE),
        Column("features_json", Text),
        Column("windows_json", Text),
        PrimaryKeyConstraint("study_name", "inputs"),
        if_not_exists=True,
    )
    stored = {column["name"] for column in inspect(op.get_bind()).get_columns("wf_runs")}
    for name in _OF_RUN:
        if name not in stored:
            op.add_column("wf_runs", Column(name, Float))
    if "inputs" not in stored:
        op.add_column("wf_runs", Column("inputs", Text))
