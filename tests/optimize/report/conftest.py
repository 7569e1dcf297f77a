"""Small studies and an empty database for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.database import Engine, open_engine
from tests.optimize.study.conftest import closed
from tests.optimize.study.databases import small

__all__ = ["closed", "engine", "small"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Yield the engine of a new SQLite database."""
    made = open_engine(f"sqlite:///{tmp_path / 'walkforge.db'}")
    yield made
    made.dispose()
