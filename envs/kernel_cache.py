"""Where compiled kernels are kept: in a folder that nobody else can write, in files that are whole.

A cache file of numba is a pickle, which runs code as it is read. So one is read only from a folder that this
user alone can write, and only where the digest before its bytes is theirs.
"""

import contextlib
import functools
import hashlib
import io
import os
import pickle
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numba
from numba.core import serialize
from numba.core.caching import FunctionCache, IndexDataCacheFile

VARIABLE = "NUMBA_CACHE_DIR"
PLOT_VARIABLE = "MPLCONFIGDIR"  # matplotlib has no better place for its fonts either
DIGEST_BYTES = hashlib.sha256().digest_size
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def find_folder(name: str, preferred: Path) -> Path:
    """Return a folder of this name that this user alone can write, below the preferred one if possible.

    Else it lies in the user's cache, or in a private temporary folder, of which a line is printed.
    """
    for parent in (preferred, user_cache()):
        if is_private(parent / name):
            return parent / name
    return temporary_folder() / name


def user_cache() -> Path:
    """Return the folder for caches of this user, which need not exist."""
    named = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(named) / "walkforge"


def is_private(folder: Path) -> bool:
    """Make a folder if it is missing and say whether this user owns it, can write it, and nobody else can.

    One that others could write until now is emptied first: anything may have been put there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        if found.st_mode & OTHERS_WRITE:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@functools.cache
def temporary_folder() -> Path:
    """Return a private temporary folder, the same for all processes of this user, as the last resort."""
    folder = Path(tempfile.gettempdir()) / f"walkforge-{os.geteuid()}"
    if not is_private(folder):
        folder = Path(tempfile.mkdtemp(prefix="walkforge-"))
    os.environ[VARIABLE] = str(folder)  # for the processes that this one starts
    os.environ.setdefault(PLOT_VARIABLE, str(folder))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(
            f"walkforge: compiled kernels are kept in {folder}, because this user has no folder of its own "
            f"beside the package nor a home: set {VARIABLE} to a folder that lasts",
            file=sys.stderr,
        )
    return folder


class WholeFiles(IndexDataCacheFile):
    """The index and data files of one kernel, each read only where it is whole."""

    def _load_index(self) -> dict[Any, str]:
        body = read_whole(Path(self._index_path))
        if body is None:
            return {}
        stream = io.BytesIO(body)
        if pickle.load(stream) != numba.__version__:
            return {}
        stamp, overloads = pickle.load(stream)
        return overloads if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        with self._open_for_write(self._index_path) as stream:
            stream.write(pickle.dumps(numba.__version__) + serialize.dumps((self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        body = read_whole(Path(self._data_path(name)))
        return None if body is None else pickle.loads(body)

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[IO[bytes]]:
        body = io.BytesIO()
        yield body
        with super()._open_for_write(filepath) as stream:
            stream.write(hashlib.sha256(body.getvalue()).digest() + body.getvalue())


class KernelCache(FunctionCache):
    """The cache of one kernel; a kernel that cannot be kept is compiled again by the next process."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = WholeFiles(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel where the disk has room."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def read_whole(path: Path) -> bytes | None:
    """Return what was kept in a file; None where there is none, or it was cut or changed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return body if hashlib.sha256(body).digest() == digest else None
