"""Cache of compiled kernels: a folder that only this user can write, and files with a checksum.

A cache file of numba is a pickle, and unpickling runs code. A file is therefore read only from a folder that
no other user can write, and only if its bytes match the digest in front of them.
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

CACHE_VARIABLE = "NUMBA_CACHE_DIR"
PLOT_VARIABLE = "MPLCONFIGDIR"  # matplotlib caches its fonts in the same fallback folder
DIGEST_BYTES = hashlib.sha256().digest_size
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def kernel_folder(name: str, preferred: Path) -> Path:
    """Return a folder of this name that only this user can write, below the preferred one if possible.

    The fallbacks are the user's cache and a private temporary folder, which is announced on stderr.
    """
    for parent in (preferred, user_cache()):
        if is_private(parent / name):
            return parent / name
    return temporary_folder() / name


def user_cache() -> Path:
    """Return the cache folder of this user, which may not exist yet."""
    named = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(named) / "walkforge"


def is_private(folder: Path) -> bool:
    """Create a folder if missing; return whether this user owns it and is the only one who can write it.

    A folder that others could write is emptied first, because its files cannot be trusted.
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
    """Return a private temporary folder, shared by all processes of this user."""
    folder = Path(tempfile.gettempdir()) / f"walkforge-{os.geteuid()}"
    if not is_private(folder):
        folder = Path(tempfile.mkdtemp(prefix="walkforge-"))
    os.environ[CACHE_VARIABLE] = str(folder)  # inherited by child processes
    os.environ.setdefault(PLOT_VARIABLE, str(folder))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(
            f"walkforge: compiled kernels are kept in {folder}, because this user has no folder of its own "
            f"beside the package nor a home: set {CACHE_VARIABLE} to a folder that lasts",
            file=sys.stderr,
        )
    return folder


class ChecksummedFiles(IndexDataCacheFile):
    """Index and data files of one kernel, read only if their checksum matches."""

    def _load_index(self) -> dict[Any, str]:
        body = read_checked(Path(self._index_path))
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
        body = read_checked(Path(self._data_path(name)))
        return None if body is None else pickle.loads(body)

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[IO[bytes]]:
        body = io.BytesIO()
        yield body
        with super()._open_for_write(filepath) as stream:
            stream.write(hashlib.sha256(body.getvalue()).digest() + body.getvalue())


class KernelCache(FunctionCache):
    """Cache of one kernel; a kernel that cannot be saved is compiled again by the next process."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = ChecksummedFiles(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled kernel; a full disk only means that the next process compiles it again."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def read_checked(path: Path) -> bytes | None:
    """Return the content of a cache file, or None if it is missing, truncated or changed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return body if hashlib.sha256(body).digest() == digest else None
