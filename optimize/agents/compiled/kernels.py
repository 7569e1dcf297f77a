"""Compile the kernels of training; their cache is as new as the sources here and those of the market."""

from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import envs
from envs.compiled import cache_folder, compile_kernel

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


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that allocates nothing, into each kernel that calls it."""
    return compile_kernel(function, _CACHE, _OPTIONS | {"forceinline": True, "_nrt": False})


def counting_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that multiplies matrices or hands out views, for which numba counts references."""
    return compile_kernel(function, _CACHE, _OPTIONS)


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
