"""Where a SQLite database lies and how it is opened; which URLs are refused and how they are shown."""

from pathlib import Path

import pytest
import sqlalchemy

from envs.errors import BadInputError
from optimize.database import DatabaseSpec, database_path, is_sqlite, local_folder, open_engine
from optimize.database.address import parse_url, url_text, without_password
from optimize.database.sqlite import network_file_system, prepare_database

MOUNTS = [
    ("/", "ext4"),
    ("/home", "nfs4"),
    ("/home/me/scratch", "xfs"),
    ("/mnt/c", "9p"),
    ("/data", "autofs"),
    ("/data", "cifs"),
    ("/remote", "fuse.sshfs"),
]


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
        ("walkforge.db", "is not a database URL"),
        ("postgresql://me:secret@host/db", r"postgresql://me:\*\*\*@host/db' does not name a file"),
        ("mysql://me:secret@host/db", r"mysql:\*\*\*@host/db' is not supported"),
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


@pytest.mark.parametrize("name", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_psycopg(name: str) -> None:
    url = f"{name}://me:secret@host:5433/db?sslmode=require"
    assert parse_url(url).drivername == "postgresql+psycopg"
    assert url_text(parse_url(url)) == "postgresql://me:***@host:5433/db?sslmode=require"
    assert not is_sqlite(url)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("postgresql+psycopg2://me:secret@host/db", "driver psycopg"),
        ("postgresql://me:secret@host", "name the database"),
        ("postgresql://me:sec@ret@host/db", "percent-encoded"),
        ("postgresql://me@host/db?password=secret", "PGPASSWORD"),
        ("postgresql://me:secret@host:port/db", "is not a database URL"),
        ("postgresql:/me:secret@host/db", "is not a database URL"),
        ("mysql://me:secret@host/db", "is not supported"),
        ("me:secret@host/db", "is not a database URL"),
    ],
)
def test_a_refusal_shows_no_password(bad: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        parse_url(bad)
    assert "\n" not in str(caught.value)
    assert "sec" not in str(caught.value).replace("insecure", "")
    assert "ret@" not in str(caught.value)
    assert "sec" not in without_password(bad)


def test_a_url_is_stored_without_its_password_and_opens_all_the_same() -> None:
    stored = without_password("postgresql://me:s%40cret@host:5433/db?sslmode=require")
    assert stored == "postgresql://me@host:5433/db?sslmode=require"
    assert parse_url(stored).password is None
    for url in ("sqlite:///databases/walkforge.db", "postgresql://host/db", stored):
        assert without_password(url) == url
    assert "secret" not in repr(DatabaseSpec(url="postgresql://me:secret@host/db"))


def test_what_lies_beside_a_database_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder("sqlite:////srv/a.db") == Path("/srv")
    assert local_folder("postgresql://host/db") == tmp_path / "databases"


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


REMOTE = (
    *("fuse.ceph-fuse", "wekafs", "panfs", "orangefs", "vboxsf", "virtiofs", "fuse.vmhgfs-fuse", "fuse.mfs"),
    *("fuse.blobfuse2", "fuse.nfs", "ocfs2", "NFS4", "fuse.sshfs", "fuse.s3fs", "fuse.mount-s3", "gfs2"),
)
LOCAL = ("ext4", "xfs", "fuseblk", "fuse.mergerfs", "fuse.fuse-overlayfs", "overlay")


@pytest.mark.parametrize("kind", [*REMOTE, *LOCAL])
def test_a_disk_that_other_machines_see_too_is_known_by_its_type(kind: str) -> None:
    assert network_file_system(Path("/a.db"), [("/", kind)]) == (kind if kind in REMOTE else None)


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
