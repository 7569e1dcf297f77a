"""The study database, SQLite or PostgreSQL with one interface: engine, study lock and clock of leases.

A URL decides which: `sqlite:///path/to/file.db` serves one machine, `postgresql://user@host/dbname` many.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from envs.fields import EXECUTION, check_ranges, setting
from optimize import clock
from optimize.database import postgresql, sqlite
from optimize.database.address import parse_url, without_password
from optimize.database.sqlite import LOCK_TIMEOUT_S, database_path

BUSY_TIMEOUT_S = 60.0
LOCAL_FOLDER = Path("databases")


@dataclass(frozen=True)
class DatabaseSpec:
    """Where studies and results are stored."""

    url: str = setting(
        "sqlite:///databases/walkforge.db",
        EXECUTION,
        "Address of the database; its password is neither stored nor shown.",
        stored=without_password,
        shown=False,
    )
    busy_timeout_s: float = setting(
        BUSY_TIMEOUT_S, EXECUTION, "Longest wait of a write for another one.", unit="seconds", above=0
    )

    def __post_init__(self) -> None:
        check_ranges(self, "database")


def is_sqlite(url: str) -> bool:
    """Return whether a URL names a SQLite file rather than a PostgreSQL server."""
    return parse_url(url).get_backend_name() == "sqlite"


def open_engine(url: str, read_only: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine on the database; raise BadInputError or DatabaseAwayError if it cannot open."""
    if is_sqlite(url):
        return sqlite.make_engine(url, read_only, busy_timeout_s)
    return postgresql.open_engine(parse_url(url), read_only, busy_timeout_s)


def check_reachable(spec: DatabaseSpec) -> None:
    """Refuse a database that is away or cannot hold a study; create nothing."""
    if is_sqlite(spec.url) and not sqlite.find_place(spec.url).is_file():
        return
    engine = open_engine(spec.url, busy_timeout_s=spec.busy_timeout_s)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def optuna_arguments(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> tuple[str, dict[str, object]]:
    """Return the URL and the engine's arguments of Optuna's storage on the same database."""
    if is_sqlite(url):
        return sqlite.optuna_arguments(url, busy_timeout_s)
    return postgresql.optuna_arguments(parse_url(url), busy_timeout_s)


def study_lock(url: str, name: str, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
    """Hold the lock for counting and asking trials; re-entrant in a thread, freed when its holder dies.

    Entering it raises WalkforgeError when another process holds it for longer than timeout_s.
    """
    if is_sqlite(url):
        return sqlite.file_lock(url, name, timeout_s)
    return postgresql.advisory_lock(parse_url(url), f"study {name}", timeout_s)


def schema_lock(url: str, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
    """Hold the lock for creating Optuna's tables, which two processes cannot create at once."""
    if is_sqlite(url):
        return sqlite.file_lock(url, "schema", timeout_s)
    return postgresql.advisory_lock(parse_url(url), postgresql.SCHEMA_LOCK, timeout_s)


def lock_schema(conn: Connection) -> None:
    """Keep other processes from creating tables and views until the transaction ends."""
    if conn.dialect.name == "postgresql":  # in SQLite the first CREATE locks the database
        postgresql.lock_schema(conn)


def lock_trials(conn: Connection, study: str) -> bool:
    """Keep others from adding trials to a study until the transaction ends, also where its lock was lost.

    Returns whether the study lock can have been lost, so that the trials must be counted again: not on
    SQLite, where it is a lock file.
    """
    if conn.dialect.name == "sqlite":
        return False
    postgresql.lock_trials(conn, study)
    return True


def server_time(conn: Connection) -> float:
    """Return the time by which leases count, in seconds since the epoch: the server's, where there is one."""
    return clock.now().timestamp() if conn.dialect.name == "sqlite" else postgresql.server_time(conn)


def has_table(bind: Engine | Connection, name: str) -> bool:
    """Return whether a database holds a table or view of that name."""
    return inspect(bind).has_table(name)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection on which every write is refused."""
    with engine.connect() as conn:
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield conn
            return
        conn.exec_driver_sql("PRAGMA query_only = ON")
        try:
            yield conn
        finally:
            # The pragma stays with the pooled connection, which another caller gets next.
            conn.exec_driver_sql("PRAGMA query_only = OFF")


def local_folder(url: str) -> Path:
    """Return the folder for files that this machine keeps beside a database: databases/ for a server."""
    return database_path(url).parent if is_sqlite(url) else LOCAL_FOLDER.resolve()


__all__ = [
    "BUSY_TIMEOUT_S",
    "LOCK_TIMEOUT_S",
    "Connection",
    "DBAPIError",
    "DataError",
    "DatabaseSpec",
    "Engine",
    "IntegrityError",
    "InterfaceError",
    "OperationalError",
    "ProgrammingError",
    "SQLAlchemyError",
    "check_reachable",
    "database_path",
    "has_table",
    "is_sqlite",
    "local_folder",
    "lock_schema",
    "lock_trials",
    "open_engine",
    "optuna_arguments",
    "reading",
    "schema_lock",
    "server_time",
    "study_lock",
]
