"""SQLite: one file on a local disk in WAL mode, with a file lock beside it."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psutil
import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine

from optimize.database.address import parse_url, url_text
from optimize.errors import BadInputError, DatabaseReplacedError, WalkforgeError, require

LOCK_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.02
NETWORK_FILE_SYSTEMS = (
    {"9p", "afpfs", "afs", "cifs", "ncpfs", "nfs", "nfs3", "nfs4", "smb", "smb2", "smb3", "smbfs"}
    | {"beegfs", "ceph", "coda", "davfs", "davfs2", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ocfs2"}
    | {"orangefs", "panfs", "pvfs2", "wekafs", "webdav"}
    | {
        "grpcfuse",
        "osxfs",
        "prl_fs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
    }  # folders that a virtual machine shares with its host
)
# Types of FUSE file systems that are remote; most others are local disks.
REMOTE_FUSE = (
    {"afp", "alluxio", "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "cifs", "curlftpfs", "davfs2", "gcsfuse"}
    | {"glusterfs", "goofys", "grpcfuse", "hdfs", "juicefs", "lizardfs", "mfs", "moosefs", "mount-s3"}
    | {"mountpoint-s3", "nfs", "objectivefs", "quobyte", "rclone", "s3fs", "seaweedfs", "smb", "smbnetfs"}
    | {"sshfs", "vmhgfs", "vmhgfs-fuse", "webdav"}
)


def database_path(url: str) -> Path:
    """Return the absolute path of a URL's SQLite file; a relative one starts at the working directory."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise BadInputError(
            f"database.url={url_text(parsed)!r} does not name a file: write sqlite:///path/to/file.db"
        )
    name = parsed.database or ""
    plain_file = name not in ("", ":memory:") and not name.startswith("file:") and not parsed.query
    require(
        plain_file, "database.url", url, "sqlite:///path/to/file.db without options: workers share one file"
    )
    # Optuna fills its storage URL in with str.format, so a brace would be read as a field.
    require(not {"{", "}"} & set(name), "database.url", url, "a path without braces")
    return Path(name).expanduser().resolve()


def network_file_system(path: Path, mounts: Iterable[tuple[str, str]]) -> str | None:
    """Return the type of the network disk that holds path; mounts are (mount point, type), oldest first."""
    depth, holder = -1, ""
    for point, kind in mounts:
        parts = len(Path(point).parts)
        if path.is_relative_to(point) and parts >= depth:
            depth, holder = parts, kind
    kind = holder.lower()
    remote = kind in NETWORK_FILE_SYSTEMS or kind.removeprefix("fuse.") in REMOTE_FUSE
    return holder if remote else None


def find_place(url: str, mounts: Iterable[tuple[str, str]] | None = None) -> Path:
    """Return the database's path; refuse a folder, and a network disk, where SQLite locks fail."""
    path = database_path(url)
    if path.is_dir():
        raise BadInputError(f"database.url: {path} is a folder: name a file in it")
    if mounts is None:
        mounts = [(disk.mountpoint, disk.fstype) for disk in psutil.disk_partitions(all=True)]
    if kind := network_file_system(path, mounts):
        raise BadInputError(
            f"database.url: {path} lies on a network file system ({kind}), where SQLite loses data: "
            "choose a path on a local disk, or database=postgresql"
        )
    return path


def prepare_database(url: str, mounts: Iterable[tuple[str, str]] | None = None) -> Path:
    """Return the path of a database that may be written, and create its folder."""
    path = find_place(url, mounts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"database.url: cannot create the folder {path.parent} ({error.strerror}): choose a writable path"
        ) from None
    return path


def _other_case(path: Path) -> str:
    """Return a hint at a file whose name differs in upper and lower case only."""
    with suppress(OSError):
        for other in path.parent.iterdir():
            if other.name.lower() == path.name.lower() and other.is_file():
                return f"; did you mean {other.name}?"
    return ""


def refuse_unwritable(path: Path) -> None:
    """Refuse a database whose file or folder this user may only read."""
    for place in (path, path.parent):
        if place.exists() and not _allowed(place, os.W_OK):
            what = "the database" if place == path else "its folder, where SQLite keeps the -wal file,"
            raise BadInputError(
                f"database.url: {place}: {what} cannot be written to by this user: make it writable, or copy "
                "the database to a folder of yours and name the copy"
            )


def _read_only_mode(path: Path) -> str:
    """Return the options that open a file for reading, also in a folder that cannot be written."""
    if not _allowed(path, os.R_OK):
        raise BadInputError(f"database.url: {path} cannot be read by this user: ask its owner, or copy it")
    log, index = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
    if _allowed(path.parent, os.W_OK) or (log.exists() and index.exists()):
        return "mode=ro"
    if log.exists() and log.stat().st_size > 0:
        raise BadInputError(
            f"database.url: {path} was not closed: {log.name} holds what the file lacks, and SQLite reads it "
            "only where it may write beside it: copy both to a folder of yours and name the copy"
        )
    return "mode=ro&immutable=1"  # no process writes to it, as a writer keeps a -wal file beside it


def _allowed(path: Path, access: int) -> bool:
    return os.access(path, access, effective_ids=os.access in os.supports_effective_ids)


def open_sqlite(
    path: Path,
    *,
    busy_timeout_s: float,
    read_only: bool = False,
    foreign_keys: bool = True,
    synced: bool = True,
) -> sqlite3.Connection:
    """Open one SQLite connection that waits for locks; a writable one switches the file to WAL.

    A power cut can undo the last commits of an unsynced connection, back to the last synced commit.
    """
    mode = _read_only_mode(path) if read_only else "mode=rwc"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}", uri=True, timeout=busy_timeout_s, check_same_thread=False
    )
    try:
        if not read_only:
            _switch_to_wal(connection, path)
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")  # the first read of the file
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):  # a lock, a full disk: it may pass
            raise
        raise BadInputError(
            f"database.url: {path} is not an SQLite database ({error}): name another"
        ) from None
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass
class DatabaseFile:
    """The file of an engine, which must stay the file that was opened first.

    SQLite goes on writing into a file that was deleted, moved or replaced, and these writes are lost.
    """

    path: Path
    opener: Callable[[], sqlite3.Connection]
    identity: tuple[int, int] | None = None  # device and inode

    def connect(self) -> sqlite3.Connection:
        """Open a connection; refuse another file than the first one."""
        if self.identity is not None:
            self.check()
        connection = self.opener()
        self.identity = self.identity or _identity(self.path)
        return connection

    def check(self, *_: object) -> None:
        """Raise DatabaseReplacedError unless the path still leads to the file that was opened."""
        if _identity(self.path) != self.identity:
            raise DatabaseReplacedError(
                f"database.url: {self.path} was deleted, moved or replaced while it was in use: put the file "
                "back with its -wal and -shm files, or restore a copy, then launch again"
            )

    def watch(self, engine: Engine) -> None:
        """Check the file at every checkout of a connection of an engine."""
        event.listen(engine, "checkout", self.check)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_engine(url: str, read_only: bool, busy_timeout_s: float) -> Engine:
    """Return an engine on the file: WAL, busy timeout and foreign keys on every connection."""
    path = database_path(url) if read_only else prepare_database(url)
    if read_only and not path.is_file():
        raise BadInputError(
            f"database.url: {path} is a folder: name a file in it"
            if path.is_dir()
            else f"database.url: there is no database at {path}; run a study first or set database.url"
            + _other_case(path)
        )
    if not read_only:
        refuse_unwritable(path)
    file = DatabaseFile(path, partial(open_sqlite, path, busy_timeout_s=busy_timeout_s, read_only=read_only))
    engine = sqlalchemy.create_engine(sqlite_url(path), creator=file.connect)
    file.watch(engine)
    return engine


def optuna_arguments(url: str, busy_timeout_s: float) -> tuple[str, dict[str, object]]:
    """Return the URL and the engine's arguments of Optuna's storage on the file."""
    path = prepare_database(url)
    refuse_unwritable(path)
    # Foreign keys stay off, as Optuna ships: its schema upgrades drop and rename tables that others refer to.
    # Unsynced: the outcome of a trial is committed and synced by Walkforge's connection first, and its next
    # commit syncs Optuna's as well, as the file has one log.
    opener = partial(open_sqlite, path, busy_timeout_s=busy_timeout_s, foreign_keys=False, synced=False)
    file = DatabaseFile(path, opener)
    return sqlite_url(path).render_as_string(hide_password=False), {
        "creator": file.connect,
        "pool_events": [(file.check, "checkout")],  # kept by the storage's pickles, unlike a listener
    }


def sqlite_url(path: Path) -> URL:
    """Return the SQLAlchemy URL of a SQLite file."""
    return URL.create("sqlite", database=str(path))


@contextmanager
def file_lock(url: str, name: str, timeout_s: float) -> Iterator[None]:
    """Hold the lock file of a database; all studies of the file share it, as SQLite has one writer."""
    path = database_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise WalkforgeError(
            f"the lock of study {name!r}, {lock.lock_file}, is held by another process for over "
            f"{timeout_s:g} s: end that process, or try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _file_lock(path: Path) -> FileLock:
    """Return this process's lock beside the database; a soft lock would outlive a killed holder."""
    return FileLock(f"{path}.lock", is_singleton=True, fallback_to_soft=False, poll_interval=POLL_INTERVAL_S)


def _switch_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Switch the file to WAL once, under the lock, as SQLite does not wait for this switch."""
    if _journal_mode(connection, "PRAGMA journal_mode") == "wal":
        return
    with _file_lock(path).acquire(timeout=LOCK_TIMEOUT_S):
        mode = _journal_mode(connection, "PRAGMA journal_mode=WAL")
    if mode != "wal":
        raise BadInputError(
            f"database.url: the disk of {path} cannot hold a WAL database: choose another path"
        )


def _journal_mode(connection: sqlite3.Connection, statement: str) -> str:
    with closing(connection.execute(statement)) as cursor:
        return str(cursor.fetchone()[0])
