"""Version of the tables in a database, as Alembic stores it; tables of a newer version are refused."""

from sqlalchemy import Connection, Engine, text

from optimize.database import has_table
from optimize.database.address import url_text
from optimize.errors import BadInputError

VERSION_TABLE = "wf_alembic_version"
# Oldest first; each has a file in migrations/versions.
VERSIONS = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
)


def refuse_newer(bind: Engine | Connection) -> None:
    """Raise BadInputError where a newer version of Walkforge made the tables."""
    if isinstance(bind, Engine):
        with bind.connect() as conn:
            refuse_newer(conn)
        return
    version = stored_version(bind)
    if version is not None and version not in VERSIONS:
        raise BadInputError(
            f"database.url={url_text(bind.engine.url)}: its tables have version {version}, and this "
            f"Walkforge reads versions up to {VERSIONS[-1]}: install the newer "
            "Walkforge, or name another database"
        )


def stored_version(conn: Connection) -> str | None:
    """Return the version of the tables; None where there are none, or version 0.1 made them."""
    if not has_table(conn, VERSION_TABLE):
        return None
    return conn.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def store_version(conn: Connection) -> None:
    """Store the version as Alembic does, without loading it for a new database."""
    if stored_version(conn) is None:
        column = "version_num VARCHAR(32) NOT NULL"
        key = f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num)"
        conn.execute(text(f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} ({column}, {key})"))
        insert = text(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES (:version)")
        conn.execute(insert, {"version": VERSIONS[-1]})
