"""Writes that are left to the system, which keeps them when a process is killed: no test cuts the power."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimize.database import sqlite

OPEN = sqlite.open_sqlite


def open_unflushed(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a SQLite connection that waits for no disk; a storage that travels names this function."""
    connection = OPEN(path, **options)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


@pytest.fixture(autouse=True, scope="session")
def nothing_flushed_to_disk() -> Iterator[None]:
    """Let no file and no database of this process and its forks wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(sqlite, "open_sqlite", open_unflushed)
        yield
