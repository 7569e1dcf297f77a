"""The study database, SQLite or PostgreSQL behind one interface: engine, study lock, the clock of leases.

A URL decides which: `sqlite:///path/to/file.db` serves one machine, `postgresql://user@host/dbname` many.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine import Engine

from optimize import clock
from optimize.database import postgresql, sqlite
from optimize.database.address import parse_url
from optimize.database.sqlite import database_path
from optimize.errors import require

BUSY_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 60.0
LOCAL_FOLDER = Path("databases")


@dataclass(frozen=True)
class DatabaseSpec:
    """Where studies and results are stored."""

    url: str = field(default="sqlite:///databases/walkforge.db", repr=False)  # it may hold a password
    busy_timeout_s: float = BUSY_TIMEOUT_S  # how long a write waits for another one

    def __post_init__(self) -> None:
        require(self.busy_timeout_s > 0, "database.busy_timeout_s", self.busy_timeout_s, "> 0 seconds")


def is_sqlite(url: str) -> bool:
    """Say whether a URL names a SQLite file rather than a PostgreSQL server."""
    return parse_url(url).get_backend_name() == "sqlite"


def open_engine(url: str, read_only: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine on the database; what cannot be opened is refused in one line."""
    if is_sqlite(url):
        return sqlite.make_engine(url, read_only, busy_timeout_s)
    return postgresql.open_engine(parse_url(url), read_only, busy_timeout_s)


def check_reachable(spec: DatabaseSpec) -> None:
    """Refuse a database that is away or cannot hold a study, and create nothing."""
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
    """Hold the right to count and ask for a study; re-entrant in a thread, freed when its holder dies.

    Entering it raises WalkforgeError when another process holds it for longer than timeout_s.
    """
    if is_sqlite(url):
        return sqlite.file_lock(url, name, timeout_s)
    return postgresql.advisory_lock(parse_url(url), f"study {name}", timeout_s)


def schema_lock(url: str, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
    """Hold the right to create Optuna's tables, which two processes at once would collide over."""
    if is_sqlite(url):
        return sqlite.file_lock(url, "schema", timeout_s)
    return postgresql.advisory_lock(parse_url(url), postgresql.SCHEMA_LOCK, timeout_s)


def lock_schema(conn: Connection) -> None:
    """Keep other processes from creating tables and views until the transaction ends."""
    if conn.dialect.name == "postgresql":  # in SQLite the first CREATE locks the database
        postgresql.lock_schema(conn)


def lock_trials(conn: Connection, study_id: int) -> None:
    """Keep others from adding trials to a study until the transaction ends, whatever became of its lock."""
    if conn.dialect.name == "postgresql":  # in SQLite the first INSERT locks the database
        postgresql.lock_trials(conn, study_id)


def server_time(conn: Connection) -> float:
    """Return what the clock of leases says, in seconds since the epoch: the server's, where there is one."""
    return clock.now().timestamp() if conn.dialect.name == "sqlite" else postgresql.server_time(conn)


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
            # The pragma belongs to the pooled connection, which somebody else gets next.
            conn.exec_driver_sql("PRAGMA query_only = OFF")


def local_folder(url: str) -> Path:
    """Return the folder for what this machine keeps beside a database: a server's is databases/."""
    return database_path(url).parent if is_sqlite(url) else LOCAL_FOLDER.resolve()


__all__ = [
    "BUSY_TIMEOUT_S",
    "LOCK_TIMEOUT_S",
    "DatabaseSpec",
    "check_reachable",
    "database_path",
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
