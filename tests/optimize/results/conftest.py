"""A real SQLite file with our tables in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from optimize.database import open_engine
from optimize.results.tables import create_tables


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'walkforge.db'}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    create_tables(engine)
    yield engine
    engine.dispose()
