"""Our own tables, beside Optuna's in the same database.

They are keyed by a run uuid or by (study name, trial number), never by Optuna's trial_id, which SQLite hands
out again after a delete. Timestamps are text, ISO 8601 in UTC with milliseconds and offset; leases count in
epoch seconds, because they are compared by arithmetic.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from optimize.database import lock_schema
from optimize.errors import BadInputError
from optimize.results.columns import AnyText, DayText, FiniteFloat, JsonText, UtcText

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
    "max_drawdown_bars",  # over bar closes; max_drawdown is over session closes
)

# Of older versions. With the second, SQLite went through all runs of a study for each of its trials.
FORMER_INDEXES = ("wf_runs_of_trial", "wf_runs_ranked")

Record = TypeVar("Record", bound="DataclassInstance")
_COMPLETE: WeakKeyDictionary[Engine, set[str]] = WeakKeyDictionary()  # tables seen to have all columns


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
    *(Column(name, BigInteger, nullable=False) for name in ("n_trials", "seed", "max_failures")),
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
    *(Column(name, AnyText) for name in ("reason", "failure_kind", "failure_message", "traceback")),
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
    Column("parameter_set", Text),  # hash of the parameters; NULL: an older version wrote the run
    Index("wf_runs_of_state", "study_name", "trial_number", "state", "attempt"),  # which run ended a trial
    Index("wf_runs_ended", "study_name", "finished_at"),  # asked before every trial that is handed out
    # Asked after every trial: whose weights to keep. It holds all that is asked for.
    Index("wf_runs_of_set", "study_name", "parameter_set", "score", "trial_number", "state", "run_uuid"),
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
    Column("supervisor_pid", Integer),
    *_real("supervisor_started"),
    PrimaryKeyConstraint("study_name", "trial_number"),
)

WINDOWS = Table(
    "wf_windows",
    METADATA,
    _text("run_uuid"),
    Column("window", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    *(
        Column(name, DayText, nullable=False)
        for name in ("train_start", "train_end", "test_start", "test_end")
    ),
    Column("train_bars", Integer, nullable=False),
    Column("test_bars", Integer, nullable=False),
    *_real("sharpe", "sharpe_zero_cost", "total_return", "max_drawdown", "volatility"),
    *_real("turnover", "cost", "trades", "exposure", "seconds"),
    Column("returns_path", Text),
    *_real("forced_exits", "reward_active_share", "max_drawdown_bars"),
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
    Column("message", AnyText, nullable=False),
    _json("detail_json", "detail"),
    Index("wf_events_of_study", "study_name", "kind"),
)

HOLDOUT_OPENINGS = Table(
    "wf_holdout_openings",
    METADATA,
    Column("opening_id", Integer, primary_key=True, autoincrement=True),
    _json("symbols_json", "symbols"),
    Column("first", DayText, nullable=False),
    Column("end", DayText, nullable=False),
    *(_text(name) for name in ("study_name", "run_uuid", "bundle", "purpose", "host")),
    Column("opened_at", UtcText, nullable=False),
)

TRASH = Table(
    "wf_trash",  # rows of the other tables that belonged to nothing, as they were
    METADATA,
    Column("trash_id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("why", AnyText, nullable=False),
    Column("row_json", Text, nullable=False),
)


def create_tables(engine: Engine) -> None:
    """Create what is missing, columns that an older version did not write too; several may do so at once."""
    with engine.begin() as conn:
        lock_schema(conn)
        server = conn.dialect.name == "postgresql"  # where the lock of the schema is held
        for table in METADATA.sorted_tables:  # SQLite decides what exists: a look would race
            if server:
                table.create(conn, checkfirst=True)
            else:
                conn.execute(CreateTable(table, if_not_exists=True))
            _refuse_newer(conn, table)
            for column in _lacking(conn, table):
                _add_column(conn, table, column)
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                if server:
                    index.create(conn, checkfirst=True)
                else:
                    conn.execute(CreateIndex(index, if_not_exists=True))
        for name in FORMER_INDEXES:
            conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")


def stored_columns(conn: Connection, table: Table) -> list[Column[Any]]:
    """Return the columns of a table that a database has, which an older version may have made."""
    key = table.name
    complete = _COMPLETE.setdefault(conn.engine, set())
    if key in complete:
        return list(table.columns)
    lacking = _lacking(conn, table)
    if not lacking:
        complete.add(key)
    return [column for column in table.columns if column not in lacking]


def _refuse_newer(conn: Connection, table: Table) -> None:
    """Refuse a table of a newer version, whose further columns must be filled."""
    known = set(table.columns.keys()) | {column.name for column in table.columns}
    for column in inspect(conn).get_columns(table.name):
        if column["name"] not in known and not column["nullable"] and column.get("default") is None:
            raise BadInputError(
                f"database.url: the table {table.name} has the column {column['name']}, which this version "
                "does not know: a newer version made this database, so use that one, or name a new database"
            )


def _lacking(conn: Connection, table: Table) -> list[Column[Any]]:
    """Return the columns that the database's own table does not have."""
    stored = {column["name"] for column in inspect(conn).get_columns(table.name)}
    return [column for column in table.columns if column.name not in stored]


def _add_column(conn: Connection, table: Table, column: Column[Any]) -> None:
    """Add a column to the table of an older version; its rows have NULL there."""
    if not column.nullable:
        raise BadInputError(
            f"database.url: the table {table.name} has no column {column.name}, which this version needs: "
            "another version made this database, so use that one, or name a new database"
        )
    definition = CreateColumn(column).compile(dialect=conn.dialect)
    try:
        conn.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    except OperationalError:  # in SQLite another process may have added it after our look
        if column in _lacking(conn, table):
            raise


def insert_into(conn: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what happens where the primary key is taken."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)


def insert_if_absent(conn: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is taken; say whether it was inserted."""
    return conn.execute(insert_into(conn, table).values(values).on_conflict_do_nothing()).rowcount == 1


def replace_row(conn: Connection, table: Table, values: dict[str, Any]) -> None:
    """Insert a row, or overwrite the one that has its primary key."""
    statement = insert_into(conn, table).values(values)
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
    stored = {column.key for column in stored_columns(conn, table)}  # an older table may lack some
    names = [part.name for part in fields(kind) if part.name in stored]
    columns = rows.with_only_columns(*(table.c[name] for name in names))
    return [kind(**{name: row[table.c[name]] for name in names}) for row in conn.execute(columns).mappings()]


def load_one(conn: Connection, kind: type[Record], table: Table, **values: Any) -> Record:
    """Return the one row that has these values as a record."""
    (record,) = load_rows(conn, kind, table, where(table, **values))
    return record
