"""Alembic runs this file: it migrates on the connection that `upgrade_tables` gives, in its transaction."""

from alembic import context

from optimize.results.schema_version import VERSION_TABLE
from optimize.results.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
