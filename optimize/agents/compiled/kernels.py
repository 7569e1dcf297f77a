"""Compile the kernels of training; their cache is as new as the sources here and those of the market."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import envs
from envs.compiled import bind, cache_folder, compile_kernel, is_cold

__all__ = ["bind", "counting_kernel", "inner_kernel", "kernel", "kernels_missing"]

P = ParamSpec("P")
R = TypeVar("R")

_CACHE = cache_folder(Path(envs.__file__).resolve().parent, Path(__file__).resolve().parent)
_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",  # a guard against division by zero would keep loops from vectorising
    # all but nnan and ninf: a NaN must stay one, for that is how a diverged training is found
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
}


def kernels_missing(*names: str) -> bool:
    """Say whether a kernel whose MODULE.NAME begins so is yet to be compiled on this machine."""
    return any(is_cold(_CACHE, name) for name in names)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that allocates nothing, into each kernel that calls it."""
    return compile_kernel(function, _CACHE, _OPTIONS | {"forceinline": True, "_nrt": False})


def counting_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that multiplies matrices or hands out views, for which numba counts references."""
    return compile_kernel(function, _CACHE, _OPTIONS)


def inner_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a counting kernel that only kernels call: without its form for Python, half the work."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return compile_kernel(function, _CACHE, _OPTIONS | options)
