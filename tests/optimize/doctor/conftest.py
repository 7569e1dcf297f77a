"""Small studies for the tests of this folder."""

from pathlib import Path

import pytest

from tests.optimize.study.conftest import closed
from tests.optimize.study.databases import small

__all__ = ["closed", "small"]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the URL of a new SQLite database; test_cli_postgresql covers PostgreSQL."""
    return f"sqlite:///{tmp_path / 'walkforge.db'}"
