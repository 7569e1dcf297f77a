"""Tables of an older version are upgraded by Alembic in one transaction; those of a newer one refused."""

import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, text

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.creation import create_tables
from optimize.results.migrations import known_versions
from optimize.results.queries import best_models
from optimize.results.schema_version import VERSION_TABLE, VERSIONS
from optimize.results.tables import METADATA

ARCHIVE = Path("tests/versions/v0_1.zip")
MAX_STATEMENTS = 200


@pytest.fixture
def old(tmp_path: Path) -> str:
    """Return the URL of a database that version 0.1 wrote."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extract("databases/walkforge.db", tmp_path)
    return f"sqlite:///{tmp_path / 'databases' / 'walkforge.db'}"


def schema_of(url: str) -> dict[str, Any]:
    """Return columns and indexes of our tables, without their order."""
    engine = open_engine(url)
    found = inspect(engine)
    tables = [name for name in found.get_table_names() if name.startswith("wf_")]
    schema: dict[str, Any] = {
        name: (
            {(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)},
            {(str(index["name"]), tuple(index["column_names"])) for index in found.get_indexes(name)},
            tuple(found.get_pk_constraint(name)["constrained_columns"]),
        )
        for name in tables
    }
    engine.dispose()
    return schema


def version_of(engine: Engine) -> str | None:
    with engine.connect() as conn:
        return conn.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def upgrade(url: str) -> None:
    engine = open_engine(url)
    create_tables(engine)
    engine.dispose()


def test_the_versions_are_those_of_the_migrations() -> None:
    assert tuple(known_versions()) == VERSIONS


def test_an_upgraded_database_has_the_tables_of_a_new_one(old: str, tmp_path: Path) -> None:
    upgrade(old)
    upgrade(f"sqlite:///{tmp_path / 'new.db'}")
    assert schema_of(old) == schema_of(f"sqlite:///{tmp_path / 'new.db'}")


def test_the_rows_of_version_0_1_are_kept(old: str) -> None:
    def rows(table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(old.removeprefix("sqlite:///"))) as conn:
            return conn.execute(f"SELECT * FROM {table}").fetchall()

    tables = ("wf_studies", "wf_runs", "wf_windows", "wf_events", "wf_baselines", "wf_exports")
    before = {table: rows(table) for table in tables}
    upgrade(old)
    for table in tables:
        assert [row[: len(first)] for row, first in zip(rows(table), before[table], strict=True)] == before[
            table
        ]
        assert before[table]


def test_a_new_database_has_the_newest_version(engine: Engine) -> None:
    assert version_of(engine) == VERSIONS[-1]
    create_tables(engine)
    assert version_of(engine) == VERSIONS[-1]


def test_an_older_database_is_read_before_it_is_upgraded(old: str) -> None:
    engine = open_engine(old, read_only=True)
    assert len(best_models(engine, "old")) == 3
    engine.dispose()
    assert not inspect(open_engine(old)).has_table(VERSION_TABLE)


def test_a_newer_database_is_refused_in_one_line(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for use in (create_tables, lambda engine: best_models(engine, "btc")):
        with pytest.raises(BadInputError, match="have version 9999, and this Walkforge reads") as refusal:
            use(engine)
        assert "\n" not in str(refusal.value)


def test_a_missing_table_is_created(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text("DROP TABLE wf_trash"))
    create_tables(engine)
    assert set(inspect(engine).get_table_names()) >= METADATA.tables.keys()


def killed_at(url: str, place: int) -> bool:
    """Upgrade in a process that is killed before a statement; return whether it was."""
    child = os.fork()
    if child == 0:
        engine = open_engine(url)
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            if seen == place:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        try:
            create_tables(engine)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_a_kill_at_any_statement_leaves_the_older_or_the_newer_tables(old: str, tmp_path: Path) -> None:
    path = Path(old.removeprefix("sqlite:///"))
    before = schema_of(old)
    content = path.read_bytes()
    newer = f"sqlite:///{tmp_path / 'new.db'}"
    upgrade(newer)
    after = schema_of(newer)
    found = []
    for place in range(MAX_STATEMENTS):
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()
        path.write_bytes(content)
        if not killed_at(old, place):
            break
        found.append(schema_of(old))
        assert found[-1] in (before, after)
        if place % 5 == 0:
            upgrade(old)
            assert schema_of(old) == after
    assert len(found) > 20
    assert found[-1] == before  # the last kill is the one before the commit


@pytest.mark.slow
def test_a_second_process_waits_for_the_upgrade_of_the_first(old: str) -> None:
    code = (
        "import sys; from optimize.database import open_engine; "
        "from optimize.results.creation import create_tables; create_tables(open_engine(sys.argv[1]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, old]) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    engine = open_engine(old)
    assert version_of(engine) == VERSIONS[-1]
    engine.dispose()


def test_alembic_is_loaded_only_to_upgrade(tmp_path: Path) -> None:
    code = (
        "import sys; from optimize.database import open_engine; "
        "from optimize.results.creation import create_tables; engine = open_engine(sys.argv[1]); "
        "create_tables(engine); create_tables(engine); print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'new.db'}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
