"""Commands that list first, and remove only with confirm=true."""

from collections.abc import Iterator
from contextlib import contextmanager

from optimize.database import Engine, open_engine
from optimize.results.creation import create_tables
from optimize.schemas.records import DeleteConfig, PruneConfig
from optimize.study.spec import MISSING_NAME, check_name


@contextmanager
def engine_of_removal(config: DeleteConfig | PruneConfig) -> Iterator[Engine]:
    """Open the database of a removal: read-only unless it is confirmed, else with all tables."""
    check_name((config.name or MISSING_NAME).replace(".", "-"))
    place = config.database
    open_engine(place.url, read_only=True).dispose()  # a database that is not there is refused, not made
    engine = open_engine(place.url, read_only=not config.confirm, busy_timeout_s=place.busy_timeout_s)
    try:
        if config.confirm:
            create_tables(engine)
        yield engine
    finally:
        engine.dispose()
