"""Small studies for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.bundles import export
from tests.optimize.study.databases import close_studies, small
from tests.optimize.study.forks import forked_workers

__all__ = ["forked_workers", "small"]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the URL of a new SQLite database; tests/conformance runs studies on PostgreSQL too."""
    return f"sqlite:///{tmp_path / 'walkforge.db'}"


@pytest.fixture
def replayed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an export replay its bundles in this process; tests of the export start the new one."""
    monkeypatch.setattr(
        export, "replay_in_new_process", lambda folders: (export._replay(folder) for folder in folders)
    )


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_studies()
