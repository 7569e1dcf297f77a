"""Tables of finalists, and the columns of random policies as a distribution."""

from typing import Any

from alembic import op
from sqlalchemy import Column, Float, Integer, PrimaryKeyConstraint, String, Text, inspect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and add the columns; earlier baselines stay single policies."""
    _create_finalists()
    _create_finalist_runs()
    op.create_table(
        "wf_finalist_stress",
        Column("run_uuid", Text, nullable=False),
        Column("scenario", Text, nullable=False),
        *_real("score", "sharpe", "total_return", "max_drawdown", "cost", "turnover", "trades"),
        Column("reason", Text),
        PrimaryKeyConstraint("run_uuid", "scenario"),
        if_not_exists=True,
    )
    _add("wf_runs", *_real("random_quantile"))
    distribution = (Column("seeds", Integer), *_real("score_low", "score_high"), Column("scores_json", Text))
    _add("wf_baselines", *distribution)


def _add(table: str, *columns: Column[Any]) -> None:
    """Add the columns that a table lacks; one that is not there yet is made with all of them."""
    stored = inspect(op.get_bind())
    if table not in stored.get_table_names():
        return
    names = {column["name"] for column in stored.get_columns(table)}
    for column in columns:
        if column.name not in names:
            op.add_column(table, column)


def _create_finalists() -> None:
    op.create_table(
        "wf_finalists",
        Column("study_name", Text, nullable=False),
        Column("parameter_set", Text, nullable=False),
        Column("rank", Integer, nullable=False),
        Column("trial_number", Integer, nullable=False),
        *_real("search_score", "fresh_score", "lower_bound", "upper_bound"),
        *_real("score_mean", "score_deviation", "score_min", "score_max", "random_quantile"),
        Column("seeds", Integer, nullable=False),
        Column("infeasible", Integer, nullable=False),
        Column("run_uuid", Text),
        Column("gate", Text),
        Column("flags", Text),
        Column("parameters_json", Text),
        Column("measured_at", String, nullable=False),
        PrimaryKeyConstraint("study_name", "parameter_set"),
        if_not_exists=True,
    )


def _create_finalist_runs() -> None:
    op.create_table(
        "wf_finalist_runs",
        Column("run_uuid", Text, primary_key=True),
        Column("study_name", Text, nullable=False),
        Column("parameter_set", Text, nullable=False),
        Column("seed", Integer, nullable=False),
        Column("trial_number", Integer, nullable=False),
        Column("state", Text, nullable=False),
        *_real("score", "standard_error"),
        *(Column(name, Text) for name in ("reason", "failure_kind", "failure_message", "traceback")),
        *_real("seconds", "random_quantile"),
        Column("gate", Text),
        Column("flags", Text),
        Column("started_at", String, nullable=False),
        Column("finished_at", String),
        *(Column(name, Text) for name in ("parameters_json", "spec_json", "entropy_json", "versions_json")),
        Column("data_fingerprint", Text, nullable=False),
        Column("metrics_json", Text),
        if_not_exists=True,
    )
    keys = ["study_name", "parameter_set", "seed"]
    op.create_index("wf_finalist_runs_of_set", "wf_finalist_runs", keys, unique=True, if_not_exists=True)


def _real(*names: str) -> list[Column[Any]]:
    return [Column(name, Float) for name in names]
