"""Tables of the luck of a study and of its parameter sets."""

from alembic import op
from sqlalchemy import Column, Float, Integer, PrimaryKeyConstraint, Text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_VERDICTS = ("verdict", "verdict_buy_and_hold")
_TRIALS = ("trial_number", "trial_buy_and_hold")
_OF_STUDY = (
    "sharpe", "p_flat", "p_buy_and_hold", "critical_flat", "critical_buy_and_hold", "chance_sharpe",
    "detectable_sharpe",
)  # fmt: skip
_COUNTS = ("n_sessions", "n_sets", "n_pruned", "n_tries", "n_tries_all", "n_held", "as_of_trials")
_OF_SET = (
    "sharpe_low", "sharpe_high", "psr", "deflated_sharpe_ratio", "chance_sharpe", "p_flat", "p_buy_and_hold",
)  # fmt: skip


def upgrade() -> None:
    """Create the tables; the next launch or leaderboard measures."""
    op.create_table(
        "wf_luck_tests",
        Column("study_name", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in _VERDICTS),
        *(Column(name, Integer) for name in _TRIALS),
        *(Column(name, Float) for name in _OF_STUDY),
        *(Column(name, Integer, nullable=False) for name in _COUNTS),
        if_not_exists=True,
    )
    op.create_table(
        "wf_luck",
        *(Column(name, Text, nullable=False) for name in ("study_name", "parameter_set", "run_uuid")),
        Column("trial_number", Integer, nullable=False),
        *(Column(name, Float) for name in _OF_SET),
        *(Column(name, Integer, nullable=False) for name in ("n_tries", "as_of_trials")),
        PrimaryKeyConstraint("study_name", "parameter_set"),
        if_not_exists=True,
    )
