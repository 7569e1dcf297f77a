"""A real database of each kind with our tables in it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from optimize.database import open_engine
from optimize.results.creation import create_tables


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    create_tables(engine)
    yield engine
    engine.dispose()
