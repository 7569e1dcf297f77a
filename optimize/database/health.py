"""Health of a database: integrity, journal, size, clock, connections."""

import os
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from optimize import clock
from optimize.database.postgresql import server_time
from optimize.database.sqlite import database_path

MAX_PROBLEMS = 5  # problems that are listed


@dataclass(frozen=True)
class DatabaseHealth:
    """Result of the checks of a database."""

    version: str
    size_bytes: int
    problems: tuple[str, ...]  # of its integrity
    checked: str  # the check that found them, in words
    journal: str | None  # of a SQLite file
    skew_s: float  # the server's clock ahead of this machine's
    connections: tuple[int, int] | None  # of a server: open, and allowed


def look(engine: Engine) -> DatabaseHealth:
    """Return the health of a database; a SQLite file is read completely."""
    return _look_at_file(engine) if engine.dialect.name == "sqlite" else _look_at_server(engine)


def _look_at_file(engine: Engine) -> DatabaseHealth:
    path = database_path(engine.url.render_as_string(hide_password=False))
    with engine.connect() as conn:
        said = list(conn.execute(text(f"PRAGMA integrity_check({MAX_PROBLEMS})")).scalars())
        journal = conn.execute(text("PRAGMA journal_mode")).scalar_one()
        version = conn.execute(text("SELECT sqlite_version()")).scalar_one()
    problems = () if said == ["ok"] else tuple(said)
    size = os.path.getsize(path)
    return DatabaseHealth(f"SQLite {version}", size, problems, "every page is sound", str(journal), 0.0, None)


def _look_at_server(engine: Engine) -> DatabaseHealth:
    with engine.connect() as conn:
        version = conn.execute(text("SHOW server_version")).scalar_one()
        size = conn.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        allowed = int(conn.execute(text("SHOW max_connections")).scalar_one())
        used = conn.execute(text("SELECT COUNT(*) FROM pg_stat_activity")).scalar_one()
        asked = clock.now().timestamp()
        server = server_time(conn)
        skew = server - (asked + clock.now().timestamp()) / 2  # the answer took half of the time
        problems, checked = _checksums(conn)
    return DatabaseHealth(f"PostgreSQL {version}", size, problems, checked, None, skew, (used, allowed))


def _checksums(conn: Connection) -> tuple[tuple[str, ...], str]:
    """Return the checksum failures that a server counted, and a sentence for the case of none."""
    counted = "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
    if conn.execute(text("SHOW data_checksums")).scalar_one() != "on":
        return (), "reached, and not checked for damage, as the server keeps no checksums"
    failures = conn.execute(text(counted)).scalar() or 0
    problems = (f"{failures} pages failed their checksum",) if failures else ()
    return problems, "no page that the server read failed its checksum"
