"""Stable SHA-256 digests of files, arrays and plain objects."""

import hashlib
import json
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the commands that read records hash no array and load no numpy
    from numpy.typing import NDArray


SETTLED_NS = 100_000_000  # two changes of a file further apart have different times on every file system
FileState = tuple[int, int, int, int]  # inode, size, times of the last change of content and of inode


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_file_once(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read once a process while its state stays the same."""
    state = settled_state(path)
    return hash_file(path) if state is None else _hash_of_state(path, state)


def settled_state(path: Path) -> FileState | None:
    """Return the state of a file, which differs after every change; None where it has just been changed."""
    seen = path.stat()
    if time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) < SETTLED_NS:
        return None  # the file system may give the next change the same time
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@lru_cache(maxsize=1024)
def _hash_of_state(path: Path, _state: FileState) -> str:
    """Return the SHA-256 of a file in one state."""
    return hash_file(path)


def hash_object(value: Any) -> str:
    """Return the SHA-256 of a plain object (dicts, lists, numbers, text), independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_arrays(arrays: "Iterable[NDArray[Any]]") -> str:
    """Return the SHA-256 over the type, shape and bytes of arrays, in order."""
    import numpy as np

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
