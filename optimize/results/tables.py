"""Our own tables, beside Optuna's in the same database.

They are keyed by a run uuid or by (study name, trial number), never by Optuna's trial_id, which SQLite hands
out again after a delete. Timestamps are text, ISO 8601 in UTC with milliseconds and offset; leases count in
epoch seconds, because they are compared by arithmetic.
"""

import json
import math
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Date,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    Text,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

METADATA = MetaData()

# Metrics of a run that people select on: columns of their own, beside the JSON that holds them all.
METRIC_COLUMNS = (
    "total_return",
    "max_drawdown",
    "cost",
    "turnover",
    "trades",
    "sharpe_zero_cost",
    "buy_and_hold",
)

Record = TypeVar("Record", bound="DataclassInstance")


class JsonText(TypeDecorator[Any]):
    """Plain objects as JSON text with sorted keys; NaN and infinity are stored as null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Return the text to store."""
        return None if value is None else json.dumps(_finite(value), sort_keys=True, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the object that was stored."""
        return None if value is None else json.loads(value)


class UtcText(TypeDecorator[datetime]):
    """An aware datetime as ISO 8601 text in UTC, of one width so that text order is time order."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Return the text to store; a naive datetime is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a timestamp must carry its time zone, got naive {value.isoformat()}")
        return value.astimezone(UTC).isoformat(timespec="milliseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Return the aware datetime that was stored."""
        return None if value is None else datetime.fromisoformat(value)


class FiniteFloat(TypeDecorator[float]):
    """A number; NaN and infinity are stored as NULL, which every database orders and averages alike."""

    impl = Float
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Return the number to store."""
        return None if value is None or not math.isfinite(value) else float(value)


def _finite(value: Any) -> Any:
    """Return the object with every NaN and infinity replaced by None, which JSON can say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _json(name: str, key: str) -> Column[Any]:
    return Column(name, JsonText, key=key)


def _real(*names: str) -> list[Column[float]]:
    return [Column(name, FiniteFloat) for name in names]


STUDIES = Table(
    "wf_studies",
    METADATA,
    Column("study_name", Text, primary_key=True),
    _text("phase"),
    Column("n_trials", Integer, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("max_failures", Integer, nullable=False),
    _json("spec_json", "spec"),
    _json("space_json", "space"),
    _text("space_hash"),
    _json("score_json", "score"),
    _text("score_hash"),
    _text("data_fingerprint"),
    _json("versions_json", "versions"),
    Column("created_at", UtcText, nullable=False),
)

RUNS = Table(
    "wf_runs",
    METADATA,
    Column("run_uuid", Text, primary_key=True),
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("repetition", Integer, nullable=False),
    _text("state"),
    *_real("score", "standard_error"),
    Column("reason", Text),
    Column("failure_kind", Text),
    Column("failure_message", Text),
    Column("traceback", Text),
    *_real("seconds"),
    Column("started_at", UtcText, nullable=False),
    Column("finished_at", UtcText),
    _json("parameters_json", "parameters"),
    _json("spec_json", "spec"),
    _json("entropy_json", "entropy"),
    _json("versions_json", "versions"),
    _text("data_fingerprint"),
    *_real(*METRIC_COLUMNS),
    _json("metrics_json", "metrics"),
    Index("wf_runs_of_trial", "study_name", "trial_number"),
)

LEASES = Table(
    "wf_leases",
    METADATA,
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    _text("run_uuid"),
    Column("token", Integer, nullable=False),
    _text("host"),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("worker", Integer, nullable=False),
    Column("renewed_at", Float, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("window", Integer),
    PrimaryKeyConstraint("study_name", "trial_number"),
)

WINDOWS = Table(
    "wf_windows",
    METADATA,
    _text("run_uuid"),
    Column("window", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    *(Column(name, Date, nullable=False) for name in ("train_start", "train_end", "test_start", "test_end")),
    Column("train_bars", Integer, nullable=False),
    Column("test_bars", Integer, nullable=False),
    *_real("sharpe", "sharpe_zero_cost", "total_return", "max_drawdown", "volatility"),
    *_real("turnover", "cost", "trades", "exposure", "seconds"),
    Column("returns_path", Text),
    PrimaryKeyConstraint("run_uuid", "window", "repeat"),
)

BASELINES = Table(
    "wf_baselines",
    METADATA,
    _text("study_name"),
    _text("timeframe"),
    _text("name"),
    *_real("score", "sharpe_zero_cost", "total_return", "cost", "turnover"),
    _json("windows_json", "windows"),
    PrimaryKeyConstraint("study_name", "timeframe", "name"),
)

EXPORTS = Table(
    "wf_exports",
    METADATA,
    Column("bundle", Text, primary_key=True),
    _text("study_name"),
    Column("trial_number", Integer, nullable=False),
    _text("run_uuid"),
    Column("rank", Integer, nullable=False),
    *_real("score"),
    _text("manifest_sha256"),
    Column("exported_at", UtcText, nullable=False),
)

EVENTS = Table(
    "wf_events",
    METADATA,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    _text("study_name"),
    Column("at", UtcText, nullable=False),
    _text("kind"),
    _text("message"),
    _json("detail_json", "detail"),
    Index("wf_events_of_study", "study_name", "kind"),
)


def create_tables(engine: Engine) -> None:
    """Create what is missing; several processes may do so at once."""
    # The database itself decides what exists: a look beforehand would race with other processes.
    with engine.begin() as conn:
        for table in METADATA.sorted_tables:
            conn.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                conn.execute(CreateIndex(index, if_not_exists=True))


def insert_if_absent(conn: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is taken; say whether it was inserted."""
    return conn.execute(insert(table).values(values).on_conflict_do_nothing()).rowcount == 1


def replace_row(conn: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or overwrite the one that has its primary key."""
    statement = insert(table).values(values)
    keys = list(table.primary_key)
    rest = {name: statement.excluded[name] for name in values if name not in {column.key for column in keys}}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


def values_of(record: "DataclassInstance") -> dict[str, Any]:
    """Return the row of a record whose fields bear the names of the columns."""
    return {part.name: getattr(record, part.name) for part in fields(record)}


def where(table: Table, **values: Any) -> Select[Any]:
    """Select the rows of a table that have these values."""
    return select(table).where(*(table.c[name] == value for name, value in values.items()))


def load_rows(conn: Connection, kind: type[Record], table: Table, rows: Select[Any]) -> list[Record]:
    """Return the selected rows as records."""
    names = [part.name for part in fields(kind)]
    return [kind(**{name: row[table.c[name]] for name in names}) for row in conn.execute(rows).mappings()]


def load_one(conn: Connection, kind: type[Record], table: Table, **values: Any) -> Record:
    """Return the one row that has these values as a record."""
    (record,) = load_rows(conn, kind, table, where(table, **values))
    return record
