"""Decorators that compile training kernels, cached under the sources of this package and of envs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import envs
from envs.compiled import bind_kernels, cache_folder, compile_kernel, lacks_kernel

__all__ = ["bind_kernels", "inner_kernel", "kernel", "refcounted_kernel", "training_kernels_missing"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CACHE = cache_folder(Path(envs.__file__).resolve().parent, Path(__file__).resolve().parent)
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # a check for division by zero would prevent vectorised loops
    # all but nnan and ninf: a NaN must survive, because it reveals a diverged training
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "no_cfunc_wrapper": True,  # no kernel is called from C
}


def training_kernels_missing(*names: str) -> bool:
    """Return whether a kernel whose MODULE.NAME starts with one of these is not compiled yet."""
    return any(lacks_kernel(_CACHE, name) for name in names)


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function without allocations, inlined into each kernel that calls it."""
    return compile_kernel(function, _CACHE, _OPTIONS | {"forceinline": True, "_nrt": False})


def refcounted_kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function that multiplies matrices or returns views, which needs numba's reference counts."""
    return compile_kernel(function, _CACHE, _OPTIONS)


def inner_kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a refcounted kernel called only by kernels; without a Python wrapper it compiles faster."""
    return compile_kernel(function, _CACHE, _OPTIONS | {"no_cpython_wrapper": True})
