"""Compilation of kernels with numba, cached under a digest of all source files of a package."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

from numba import config, njit

from envs.kernel_cache import KernelCache, kernel_folder

_P = ParamSpec("_P")
_R = TypeVar("_R")


def digest_sources(folder: Path) -> str:
    """Return a SHA-256 over the paths and bytes of the Python files in a folder and in those below it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SETTINGS = vars(config)  # numba fills this module at run time, unseen by a type checker
_FOLDER = Path(__file__).resolve().parent
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # divide without a guard
    "fastmath": False,  # if unset, it is inherited from the first kernel that calls this one, and cached
    "forceinline": True,
    "no_cfunc_wrapper": True,  # no kernel is called from C; a kernel would be inlined into it once more
    "_nrt": False,  # numba's run time: allocation and reference counts; its stubs do not list this option
}


def cache_folder(*folders: Path) -> Path:
    """Return the cache folder for the kernels of the last folder, named after all sources."""
    digest = hashlib.sha256("".join(map(digest_sources, folders)).encode())
    parent = Path(_SETTINGS["CACHE_DIR"] or folders[-1] / "__pycache__")
    return kernel_folder(f"kernels-{digest.hexdigest()[:16]}", parent)


def lacks_kernel(cache: Path, name: str = "") -> bool:
    """Return whether a cache lacks every kernel whose MODULE.NAME starts with a prefix."""
    return next(cache.glob(f"*/{name}*.nbi"), None) is None


def compile_kernel(function: Callable[_P, _R], cache: Path, options: dict[str, Any]) -> Callable[_P, _R]:
    """Compile a function with these options of numba and cache the result in a folder.

    numba checks only the file of the outermost kernel for changes, so after an edit of cost_kernels.py the
    ledger would still run the old costs; a cache folder named after all sources prevents that.
    """
    configured = _SETTINGS["CACHE_DIR"]
    _SETTINGS["CACHE_DIR"] = str(cache)
    try:
        dispatcher: Any = njit(**options)(function)
        dispatcher._cache = KernelCache(function)
    finally:
        _SETTINGS["CACHE_DIR"] = configured
    return cast(Callable[_P, _R], dispatcher)


_CACHE = cache_folder(_FOLDER)


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function without fast-math; it releases the GIL and divides like numpy.

    Kernels skip reference counting, which costs more than the arithmetic: the caller owns the arrays.
    A kernel that allocates (np.zeros, a copy, a slice assigned to a slice) therefore does not compile.
    """
    return compile_kernel(function, _CACHE, _OPTIONS)


def market_kernels_missing() -> bool:
    """Return whether the kernels of the market are not compiled yet on this machine."""
    return lacks_kernel(_CACHE)


def bind_kernels(function: Callable[_P, _R], name: str, **kernels: Callable[..., Any]) -> Callable[_P, _R]:
    """Return a copy of a plain function under its own name, with these kernels as its globals.

    numba treats globals as constants and names cache files after functions. A kernel passed as an argument
    has a different type in each process, so the cache would never be hit.
    """
    plain = cast(FunctionType, function)
    if unused := kernels.keys() - set(plain.__code__.co_names):
        raise TypeError(f"{plain.__name__} does not call {', '.join(sorted(unused))}")
    copy = FunctionType(plain.__code__, plain.__globals__ | kernels, name, plain.__defaults__)
    copy.__qualname__ = name
    copy.__module__ = plain.__module__
    return cast(Callable[_P, _R], copy)
