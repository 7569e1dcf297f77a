"""Compile a kernel once a machine, in a cache that is as new as every source file of this package."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import config, njit

P = ParamSpec("P")
R = TypeVar("R")


def digest_sources(folder: Path) -> str:
    """Return a SHA-256 over the names and bytes of a folder's Python files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SETTINGS = vars(config)  # numba fills this module at run time, unseen by a type checker
_FOLDER = Path(__file__).resolve().parent
_CACHE = Path(_SETTINGS["CACHE_DIR"] or _FOLDER / "__pycache__") / f"kernels-{digest_sources(_FOLDER)[:16]}"
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # divide without a guard
    "forceinline": True,
    "_nrt": False,  # numba's run time: allocation and reference counts; its stubs do not list this option
}


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function without fast-math; it releases the GIL and divides like numpy.

    numba looks only at the file of the outermost kernel to tell whether its cache is fresh, so an edit of
    costs.py would leave the ledger on the old costs; a cache folder named by all sources rules that out.
    Where that folder cannot be written numba falls back to its own choice.

    Kernels count no references, which is more work than the arithmetic: the caller holds the arrays while
    one runs. So a kernel that allocates (np.zeros, a copy, a slice assigned to a slice) does not compile.
    """
    configured = _SETTINGS["CACHE_DIR"]
    _SETTINGS["CACHE_DIR"] = str(_CACHE)
    try:
        kernel: Callable[P, R] = njit(**_OPTIONS)(function)
    finally:
        _SETTINGS["CACHE_DIR"] = configured
    return kernel
