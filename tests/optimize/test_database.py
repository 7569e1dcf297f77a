"""Where the database lies, how it is opened, and who holds its lock."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import sqlalchemy

from envs.errors import BadInputError, WalkforgeError
from optimize.database import (
    DatabaseSpec,
    database_path,
    network_file_system,
    open_engine,
    prepare_database,
    study_lock,
)

MOUNTS = [
    ("/", "ext4"),
    ("/home", "nfs4"),
    ("/home/me/scratch", "xfs"),
    ("/mnt/c", "9p"),
    ("/data", "autofs"),
    ("/data", "cifs"),
    ("/remote", "fuse.sshfs"),
]


def hold_lock(url: str, held: Event) -> None:
    with study_lock(url, "a"):
        held.set()
        time.sleep(60)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/folder/a.db"


def test_a_relative_path_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_path(DatabaseSpec().url) == tmp_path / "databases" / "walkforge.db"
    assert database_path("sqlite:////srv/a.db") == Path("/srv/a.db")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("walkforge.db", "is no database URL"),
        ("postgresql://me:secret@host/db", r"postgresql://me:\*\*\*@host/db' is not supported"),
        ("sqlite://", "workers share one file"),
        ("sqlite:///:memory:", "workers share one file"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "workers share one file"),
        ("sqlite:///a.db?timeout=5", "without options"),
        ("sqlite:///runs/{name}.db", "without braces"),
    ],
)
def test_bad_urls_are_refused(bad: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        database_path(bad)


def test_a_timeout_must_be_positive() -> None:
    with pytest.raises(BadInputError, match=r"database\.busy_timeout_s=0"):
        DatabaseSpec(busy_timeout_s=0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/a.db", None),
        ("/home/me/a.db", "nfs4"),
        ("/home/me/scratch/a.db", None),
        ("/homeless/a.db", None),
        ("/mnt/c/a.db", "9p"),
        ("/data/a.db", "cifs"),
        ("/remote/a.db", "fuse.sshfs"),
    ],
)
def test_the_deepest_and_latest_mount_decides(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


def test_a_network_disk_is_refused_and_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"network file system \(nfs\).*choose a path on a local disk"):
        prepare_database(f"sqlite:///{tmp_path}/new/a.db", [("/", "ext4"), (str(tmp_path), "nfs")])
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot create the folder"):
        prepare_database(f"sqlite:///{tmp_path}/file/a.db", [])


def test_every_connection_has_wal_timeout_and_foreign_keys(url: str) -> None:
    engine = open_engine(url)
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "busy_timeout", "foreign_keys")
            ]
            assert settings == ["wal", 60_000, 1]
    engine.dispose()


def test_a_read_only_engine_reads_and_cannot_write(url: str) -> None:
    writer = open_engine(url)
    with writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE wf_a (x INTEGER)")
        connection.exec_driver_sql("INSERT INTO wf_a VALUES (3)")
    reader = open_engine(url, read_only=True)
    with reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT x FROM wf_a").scalar() == 3
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
        with pytest.raises(sqlalchemy.exc.OperationalError, match="readonly"):
            connection.exec_driver_sql("INSERT INTO wf_a VALUES (4)")
    reader.dispose()
    writer.dispose()


def test_reading_a_database_that_is_not_there_is_refused(url: str) -> None:
    with pytest.raises(BadInputError, match="there is no database at"):
        open_engine(url, read_only=True)
    assert not database_path(url).parent.exists()


def test_odd_characters_in_a_path_name_that_very_file(tmp_path: Path) -> None:
    path = tmp_path / "a b#c.db"
    engine = open_engine(f"sqlite:///{path}")
    with engine.connect():
        assert path.is_file()
    engine.dispose()


def test_the_lock_is_re_entrant_and_excludes_threads(url: str) -> None:
    outcome = []

    def try_lock() -> None:
        try:
            with study_lock(url, "other", timeout_s=0.1):
                outcome.append("taken")
        except WalkforgeError:
            outcome.append("refused")

    def in_thread() -> None:
        thread = threading.Thread(target=try_lock)
        thread.start()
        thread.join()

    with study_lock(url, "a"):
        with study_lock(url, "a"):
            in_thread()
        in_thread()
    in_thread()
    assert outcome == ["refused", "refused", "taken"]


def test_an_error_inside_frees_the_lock(url: str) -> None:
    with pytest.raises(ZeroDivisionError), study_lock(url, "a"):
        raise ZeroDivisionError
    with study_lock(url, "a", timeout_s=0.1):
        pass


def test_a_killed_holder_frees_the_lock(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold_lock, args=(url, held))
    holder.start()
    assert held.wait(60)
    with (
        pytest.raises(WalkforgeError, match=r"lock of study 'b'.*held by another process"),
        study_lock(url, "b", 0.2),
    ):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(30)
    with study_lock(url, "b", timeout_s=5):
        pass
