"""A database that this user may only read is read; whoever would write to it is refused in one line."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.creation import create_tables
from optimize.results.queries import best_models, best_score, find_study, health_of, list_queries, run_query
from optimize.results.views import create_views
from optimize.search.storage import open_storage
from tests.optimize.results.factories import STUDY, complete_outcome, query_values, run_to_end
from tests.postgres import Server

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user to whom the modes of files apply."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def fill(url: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    engine = open_engine(url)
    create_tables(engine)
    storage = open_storage(url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    study.ask()
    run_to_end(engine, 0, complete_outcome(1.5))
    study.tell(0, 1.5)
    create_views(engine)
    storage.engine.dispose()
    engine.dispose()


def read(url: str) -> None:
    """Read all that the verbs read."""
    engine = open_engine(url, read_only=True)
    assert [row.score for row in best_models(engine, find_study(engine, STUDY))] == [1.5]
    for name, _ in list_queries():
        run_query(engine, name, query_values(name))
    with engine.connect() as conn:
        assert (health_of(conn, STUDY)["complete"], best_score(conn, STUDY)) == (1, 1.5)
    engine.dispose()


@pytest.fixture
def path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="walkforge-read-only-"))
    path = folder / "a.db"
    fill(f"sqlite:///{path}")
    read(f"sqlite:///{path}")  # late imports happen here, before memory is measured
    writer = open_engine(f"sqlite:///{path}")
    writer.connect().close()
    writer.dispose()  # a writer that ends takes its log along
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_file_in_a_read_only_folder_is_read(path: Path) -> None:
    with unprivileged():
        read(f"sqlite:///{path}")
    assert [each.name for each in path.parent.iterdir() if each.suffix != ".lock"] == ["a.db"]


def test_a_writer_is_refused_in_one_line(path: Path) -> None:
    with unprivileged():
        with pytest.raises(BadInputError, match=r"a\.db: the database cannot be written to by this user"):
            open_engine(f"sqlite:///{path}")
        with pytest.raises(BadInputError, match="cannot be written to"):
            open_storage(f"sqlite:///{path}")
    path.chmod(0o666)
    with unprivileged(), pytest.raises(BadInputError, match="its folder, where SQLite keeps"):
        open_engine(f"sqlite:///{path}")


def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    path.chmod(0o000)
    with unprivileged():
        engine = open_engine(f"sqlite:///{path}", read_only=True)
        with pytest.raises(BadInputError, match="cannot be read by this user"):
            engine.connect()


def test_a_log_that_cannot_be_read_is_not_passed_over(path: Path) -> None:
    """A copy of a database that was in use: its newest rows lie in the log alone."""
    path.parent.chmod(0o755)
    path.chmod(0o644)
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO wf_exports VALUES ('b', 'btc.model', 0, 'u', 1, 1.0, 'x', 'now')"))
    log = path.with_name("a.db-wal")
    copies = {each: each.read_bytes() for each in (path, log)}
    path.parent.chmod(0o555)
    with unprivileged():
        read(f"sqlite:///{path}")  # while it is in use its index is there
    path.parent.chmod(0o755)
    engine.dispose()
    for each, content in copies.items():
        each.write_bytes(content)
    path.parent.chmod(0o555)
    with unprivileged(), pytest.raises(BadInputError, match=r"a\.db-wal holds what the file lacks"):
        read(f"sqlite:///{path}")


@pytest.mark.postgres
def test_a_role_that_may_only_read_reads(postgres: str, postgres_server: Server) -> None:
    fill(postgres)
    role = f"reader_{os.getpid()}"
    writer = open_engine(postgres)
    with writer.begin() as conn:
        conn.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD 'reading'"))
        conn.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
        conn.execute(text("DROP VIEW best_models"))
    url = postgres.replace(postgres.partition("//")[2].partition("@")[0], f"{role}:reading")
    read(url)
    with pytest.raises(BadInputError, match=f"{role} may not write .*GRANT INSERT, UPDATE, DELETE"):
        open_engine(url)
    with writer.begin() as conn:
        conn.execute(text(f"REVOKE SELECT ON wf_windows FROM {role}"))
    with pytest.raises(BadInputError, match=f"{role} may not read .*wf_windows.*GRANT SELECT"):
        open_engine(url, read_only=True)
    with writer.begin() as conn:
        conn.execute(text(f"DROP OWNED BY {role}"))
        conn.execute(text(f"DROP ROLE {role}"))
    writer.dispose()


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0"])
def test_an_empty_or_cut_file_holds_no_study(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}", read_only=True)
    with pytest.raises(BadInputError, match=r"holds no study yet|is not an SQLite database"):
        find_study(engine, "any")
    engine.dispose()


def test_a_folder_a_wrong_case_and_a_link(tmp_path: Path) -> None:
    fill(f"sqlite:///{tmp_path / 'Walk.db'}")
    with pytest.raises(BadInputError, match="is a folder"):
        open_engine(f"sqlite:///{tmp_path}", read_only=True)
    with pytest.raises(BadInputError, match=r"did you mean Walk\.db\?"):
        open_engine(f"sqlite:///{tmp_path / 'walk.DB'}", read_only=True)
    (tmp_path / "link.db").symlink_to("Walk.db")
    read(f"sqlite:///{tmp_path / 'link.db'}")


def test_tables_of_a_newer_version_are_refused_in_one_line(database_url: str) -> None:
    fill(database_url)
    engine = open_engine(database_url)
    with engine.begin() as conn:
        conn.execute(text("UPDATE version_info SET schema_version = 99"))
        conn.execute(text("UPDATE alembic_version SET version_num = 'v9.9.9'"))
        conn.execute(text("UPDATE wf_alembic_version SET version_num = '9999'"))
    with pytest.raises(BadInputError, match="cannot use its tables in this database") as refused:
        open_storage(database_url)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInputError, match="Walkforge reads versions up to"):
        create_tables(engine)
    engine.dispose()
    del refused
    gc.collect()  # a connection that the refused storage had left open would warn
