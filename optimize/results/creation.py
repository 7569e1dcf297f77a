"""Creation and upgrade of the tables of results in a database."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect

from optimize.database import lock_schema
from optimize.results.rows import forget_columns
from optimize.results.schema_version import VERSIONS, refuse_newer, store_version, stored_version
from optimize.results.tables import METADATA


def create_tables(engine: Engine) -> None:
    """Create the tables that are missing and upgrade those of an older version, several processes at once.

    Either happens in one transaction: a process that is killed leaves the tables as they were.
    """
    with engine.connect() as conn:
        refuse_newer(conn)
        if stored_version(conn) == VERSIONS[-1] and not _missing_tables(conn):
            return
    with engine.connect() as conn, _schema_transaction(conn):
        missing = _missing_tables(conn)
        if len(missing) < len(METADATA.tables) and stored_version(conn) != VERSIONS[-1]:
            from optimize.results.migrations import upgrade_tables  # Alembic loads slowly

            upgrade_tables(conn)
        METADATA.create_all(conn)
        store_version(conn)
    forget_columns(engine)


@contextmanager
def _schema_transaction(conn: Connection) -> Iterator[None]:
    """Hold the lock of the schema in a transaction; SQLite begins none by itself before it alters a table."""
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql("BEGIN IMMEDIATE")
    lock_schema(conn)
    yield
    conn.commit()


def _missing_tables(conn: Connection) -> set[str]:
    return METADATA.tables.keys() - set(inspect(conn).get_table_names())
