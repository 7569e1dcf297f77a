"""Migrations of the wf_ tables, run by Alembic. Alembic loads slowly: only for older databases."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

MIGRATIONS_FOLDER = Path(__file__).parent


def upgrade_tables(conn: Connection) -> None:
    """Run the migrations that a database lacks, inside the open transaction of a connection."""
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def known_versions() -> list[str]:
    """Return the versions that the migrations lead to, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER).replace("%", "%%"))
    return config
