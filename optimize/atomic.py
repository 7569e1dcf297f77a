"""Write files and folders beside their target, flush them to disk, then rename: no reader sees half of one.

A killed process leaves its `.NAME.XXXXXXXX.partial`, which a later writer of NAME deletes.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
ABANDONED_AFTER_S = 7 * 86_400.0  # without a write, where several processes may write the same target


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush a folder and everything in it to disk, the deepest first."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def append(path: Path, content: bytes) -> None:
    """Append to a file and flush it to disk."""
    with path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def replacing(path: Path, *, alone: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a new file that replaces `path` when the block ends; an error leaves `path` as it is.

    The caller creates the file, so that its mode follows the umask. `alone` as in `remove_partials`. Where
    `durable` is False the file is not flushed to disk: a power cut may lose it.
    """
    remove_partials(path, alone=alone)
    partial = partial_of(path)
    try:
        yield partial
        if durable:
            put_file(partial, path)
        else:
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` when the block ends; an error leaves `path` as it is.

    `alone` as in `remove_partials`.
    """
    with partial_folder(path, alone=alone) as partial:
        yield partial
        sync_tree(partial)
        put_folder(partial, path)


@contextmanager
def partial_folder(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`, deleted when the block ends unless it was renamed."""
    remove_partials(path, alone=alone)
    partial = partial_of(path)
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put_file(source: Path, target: Path) -> None:
    """Flush a finished file to disk and rename it to `target`, replacing a file there."""
    sync(source)
    source.replace(target)


def put_folder(source: Path, target: Path) -> None:
    """Rename a finished folder to `target`; a folder there is renamed first and then deleted."""
    replaced = partial_of(target)
    if target.exists():
        target.rename(replaced)
    source.rename(target)
    sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def partial_of(path: Path) -> Path:
    """Return a new name beside `path` for a file or folder that is being written."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def remove_partials(path: Path, *, alone: bool = False) -> None:
    """Delete the partial files and folders of `path` that killed processes left.

    `alone`: the caller holds the lock of `path`, so that every partial file of it was abandoned. Otherwise
    another process may be writing one, and only those without a write for a week are deleted.
    """
    for name in _names_in(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(PARTIAL):
            left = path.with_name(name)
            if alone or time.time() - _last_write(left) > ABANDONED_AFTER_S:
                _delete(left)


def remove_all_partials(folder: Path) -> None:
    """Delete every partial file and folder in a folder whose lock the caller holds."""
    for name in _names_in(folder):
        if name.startswith(".") and name.endswith(PARTIAL):
            _delete(folder / name)


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # absent or unreadable: writing the target will report it
        return []


def _last_write(path: Path) -> float:
    """Return the time of the last write in a file or folder; that of a path that vanished counts as now."""
    inside = path.rglob("*") if path.is_dir() else ()
    try:
        return max(float(each.stat().st_mtime) for each in (path, *inside))
    except OSError:
        return time.time()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
