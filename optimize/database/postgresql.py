"""PostgreSQL: a server for workers on many machines, with advisory locks and one clock for all."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from optimize.database.address import url_text
from optimize.errors import BadInputError, DatabaseAwayError, LockLostError, WalkforgeError, install_hint

SCHEMA_LOCK = "schema"
CONNECT_TIMEOUT_S = 10
LOCK_NOT_AVAILABLE = "55P03"
# The server drops the lock of a worker whose machine is gone within about a minute.
KEEPALIVES = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
REMEDIES = {
    "could not translate host name": "mend the host's name",
    "failed to resolve host": "mend the host's name",
    "invalid connection option": "write options of libpq behind the ?, such as sslmode=require",
    "Connection refused": "start the server, or mend host and port",
    "No such file or directory": "start the server, or name its host",
    "timeout expired": "see whether host, port and firewall are right",
    "password authentication failed": "set the right password in PGPASSWORD, ~/.pgpass or the URL",
    "no password supplied": "set the password in PGPASSWORD, ~/.pgpass or the URL",
    "too many clients": "use fewer workers, or raise the server's max_connections",
    "remaining connection slots": "use fewer workers, or raise the server's max_connections",
}
_STATE = text(
    "SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_schema(), current_user, "
    "to_regclass('wf_studies') IS NOT NULL OR has_schema_privilege(current_schema(), 'CREATE')"
)
# The tables of Walkforge, and of Optuna where there are any, that a user has no right to.
_DENIED = text(
    "SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c "
    "WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace(current_schema()) "
    "AND to_regclass('wf_studies') IS NOT NULL "
    "AND (c.relname LIKE 'wf\\_%' OR c.relname LIKE 'trial%' OR c.relname LIKE 'stud%') "
    "AND EXISTS (SELECT 1 FROM unnest(CAST(:rights AS text[])) AS needed "
    "WHERE NOT has_table_privilege(c.oid, needed))"
)
_READING, _WRITING = ["SELECT"], ["SELECT", "INSERT", "UPDATE", "DELETE"]
_held = threading.local()


def open_engine(url: URL, read_only: bool, busy_timeout_s: float) -> Engine:
    """Return an engine on a server that answers; refuse one that does not or cannot serve."""
    arguments = _read_only_arguments if read_only else _arguments
    engine = sqlalchemy.create_engine(url, **arguments(url, busy_timeout_s))
    try:
        _check(engine, url, read_only)
    except BaseException:
        engine.dispose()
        raise
    return engine


def optuna_arguments(url: URL, busy_timeout_s: float) -> tuple[str, dict[str, object]]:
    """Return the URL and the engine's arguments of Optuna's storage."""
    return url.render_as_string(hide_password=False), _arguments(url, busy_timeout_s)


def require_psycopg() -> None:
    """Refuse to go on without the driver."""
    try:
        import psycopg  # noqa: F401  (an extra)
    except ImportError:
        raise BadInputError(
            f"database.url: PostgreSQL needs its driver: {install_hint('postgres')}"
        ) from None


@contextmanager
def advisory_lock(url: URL, name: str, timeout_s: float) -> Iterator[None]:
    """Hold a lock of this database in a separate session, which ends with its process.

    Re-entrant in a thread. A pooler between here and the server must be in session mode.
    """
    mine: set[tuple[URL, str]] = _held.__dict__.setdefault("locks", set())
    if (url, name) in mine:
        yield
        return
    with _connected(_lock_engine(url), url) as conn:
        _take(conn, name, timeout_s)
        mine.add((url, name))
        try:
            yield
        finally:
            mine.discard((url, name))
            _give_back(conn, name)


def lock_schema(conn: Connection) -> None:
    """Take the lock of the schema until the transaction ends."""
    _lock_transaction(conn, SCHEMA_LOCK)


def lock_trials(conn: Connection, study: str) -> None:
    """Keep others from adding trials to a study until the transaction ends.

    The study lock ends with its session, which may break; this lock ends with the transaction of its writer.
    """
    _lock_transaction(conn, f"trials of {study}")


def server_time(conn: Connection) -> float:
    """Return the server's clock now, not at the start of the transaction, in seconds since the epoch."""
    now = text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)")
    return float(conn.execute(now).scalar_one())


def _arguments(url: URL, busy_timeout_s: float) -> dict[str, Any]:
    """Return the arguments of an engine that keeps one idle connection and checks it before use."""
    timeout_ms = _milliseconds(busy_timeout_s)
    settings = {"lock_timeout": timeout_ms, "idle_in_transaction_session_timeout": timeout_ms}
    return {
        "isolation_level": "READ COMMITTED",  # for leases: a statement reads the rows that others committed
        "pool_size": 1,  # a server has about a hundred connections, and each worker two engines
        "max_overflow": 20,
        "pool_pre_ping": True,  # the server may have been started anew
        "connect_args": _connect_arguments(url, settings),
    }


def _read_only_arguments(url: URL, busy_timeout_s: float) -> dict[str, Any]:
    """Return the arguments of an engine that keeps no connection between two uses."""
    settings = {"lock_timeout": _milliseconds(busy_timeout_s), "default_transaction_read_only": "on"}
    return {"poolclass": NullPool, "connect_args": _connect_arguments(url, settings)}


def _connect_arguments(url: URL, settings: dict[str, Any]) -> dict[str, Any]:
    require_psycopg()
    given = url.query.get("options", "")
    options = [given if isinstance(given, str) else " ".join(given)]
    options += [f"-c {name}={value}" for name, value in (KEEPALIVES | settings).items()]
    defaults = {"application_name": "walkforge", "connect_timeout": CONNECT_TIMEOUT_S}
    free = {key: value for key, value in defaults.items() if key not in url.query}
    return {"options": " ".join(options).strip(), "client_encoding": "utf8", **free}


@cache
def _lock_engine(url: URL) -> Engine:
    """Return an engine whose every connection is a session that ends when it is closed."""
    return sqlalchemy.create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_connect_arguments(url, {})
    )


@contextmanager
def _connected(engine: Engine, url: URL) -> Iterator[Connection]:
    """Yield a connection; raise DatabaseAwayError with the cause where there is none."""
    try:
        conn = engine.connect()
    except DBAPIError as error:
        raise _refusal(url, error) from None
    with conn:
        yield conn


def _check(engine: Engine, url: URL, read_only: bool) -> None:
    """Refuse a server that cannot hold a study before anything is written."""
    where = f"database.url={url_text(url)}"
    with _connected(engine, url) as conn:
        encoding, standby, schema, user, may_create = conn.execute(_STATE).one()
        rights = _READING if read_only else _WRITING
        denied = conn.execute(_DENIED, {"rights": rights}).scalar()
    if encoding != "UTF8":
        raise BadInputError(f"{where}: the database is in {encoding}: create one in UTF8 and name it")
    if denied and (read_only or not standby):
        may_not, right = ("read", "SELECT") if read_only else ("write", "INSERT, UPDATE, DELETE")
        raise BadInputError(
            f"{where}: {user} may not {may_not} the tables {denied}: GRANT {right} ON ALL TABLES IN SCHEMA "
            f"{schema} TO {user}, or use a role that may"
        )
    if read_only:
        return
    if standby:
        raise BadInputError(f"{where}: this server is a standby, which takes no writes: name the primary")
    if not may_create:
        raise BadInputError(
            f"{where}: {user} may not create tables in the schema {schema}: "
            f"GRANT CREATE ON SCHEMA {schema} TO {user}, or use a database of its own"
        )


def _refusal(url: URL, error: DBAPIError) -> DatabaseAwayError:
    """Return the error of psycopg in one line, with its remedy."""
    said = " ".join(str(error.orig).split())
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in said), "mend database.url")
    if f'database "{url.database}" does not exist' in said:
        remedy = f"create it with createdb {url.database}"
    return DatabaseAwayError(f"database.url={url_text(url)}: cannot connect ({said}): {remedy}")


def _lock_transaction(conn: Connection, name: str) -> None:
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(name)})


def _take(conn: Connection, name: str, timeout_s: float) -> None:
    """Wait in the server's queue for a lock; raise WalkforgeError when that takes too long."""
    wait = text("SELECT set_config('lock_timeout', :milliseconds, false)")
    conn.execute(wait, {"milliseconds": str(_milliseconds(timeout_s))})
    try:
        conn.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(name)})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise WalkforgeError(
            f"the lock of {name} in database {conn.engine.url.database} is held by another process for over "
            f"{timeout_s:g} s: end that process, or try again"
        ) from None


def _give_back(conn: Connection, name: str) -> None:
    """Free a lock at once; raise LockLostError if it was not held to the end."""
    try:
        held = conn.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(name)}).scalar()
    except DBAPIError as error:
        raise LockLostError(
            f"the connection that held the lock of {name} broke ({' '.join(str(error.orig).split())}): "
            "see that the server runs, then launch again"
        ) from error
    if not held:
        raise LockLostError(f"the lock of {name} was lost: a pooler must be in session mode")


def _milliseconds(timeout_s: float) -> int:
    """Return a timeout as PostgreSQL takes it, to which 0 would mean none."""
    return max(1, round(1000 * timeout_s))


def _key(name: str) -> int:
    """Return the 64-bit key of a lock; PostgreSQL keeps those of its databases apart."""
    digest = hashlib.sha256(f"walkforge {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
