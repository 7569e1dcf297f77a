"""Compile a kernel once a machine, in a cache that is as new as every source file of this package."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

from numba import config, njit

from envs.kernel_cache import KernelCache, find_folder

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
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # divide without a guard
    "fastmath": False,  # said, or it would be inherited from the kernel that calls this one first, and cached
    "forceinline": True,
    "_nrt": False,  # numba's run time: allocation and reference counts; its stubs do not list this option
}


def cache_folder(*folders: Path) -> Path:
    """Return where kernels are kept that are compiled from the sources of these folders, the last its own."""
    digest = hashlib.sha256("".join(map(digest_sources, folders)).encode())
    parent = Path(_SETTINGS["CACHE_DIR"] or folders[-1] / "__pycache__")
    return find_folder(f"kernels-{digest.hexdigest()[:16]}", parent)


def is_cold(cache: Path, name: str = "") -> bool:
    """Say whether a cache has no kernel whose MODULE.NAME begins so: the first call then takes its time."""
    return next(cache.glob(f"*/{name}*.nbi"), None) is None


def compile_kernel(function: Callable[P, R], cache: Path, options: dict[str, Any]) -> Callable[P, R]:
    """Compile a function with these options of numba, and keep what comes of it in this cache.

    numba looks only at the file of the outermost kernel to tell whether its cache is fresh, so an edit of
    costs.py would leave the ledger on the old costs; a cache folder named by all sources rules that out.
    """
    configured = _SETTINGS["CACHE_DIR"]
    _SETTINGS["CACHE_DIR"] = str(cache)
    try:
        dispatcher: Any = njit(**options)(function)
        dispatcher._cache = KernelCache(function)
    finally:
        _SETTINGS["CACHE_DIR"] = configured
    return cast(Callable[P, R], dispatcher)


_CACHE = cache_folder(_FOLDER)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function without fast-math; it releases the GIL and divides like numpy.

    Kernels count no references, which is more work than the arithmetic: the caller holds the arrays while
    one runs. So a kernel that allocates (np.zeros, a copy, a slice assigned to a slice) does not compile.
    """
    return compile_kernel(function, _CACHE, _OPTIONS)


def kernels_missing() -> bool:
    """Say whether the kernels of the market are yet to be compiled on this machine."""
    return is_cold(_CACHE)


def bind(function: Callable[P, R], name: str, **kernels: Callable[..., Any]) -> Callable[P, R]:
    """Return the plain function once more, under a name of its own, with these kernels as globals.

    numba takes globals as constants and files its cache by name. A kernel that came as an argument would
    have another type in each process, so that the cache would never be hit.
    """
    plain = cast(FunctionType, function)
    copy = FunctionType(plain.__code__, plain.__globals__ | kernels, name, plain.__defaults__)
    copy.__qualname__ = name
    copy.__module__ = plain.__module__
    return cast(Callable[P, R], copy)
