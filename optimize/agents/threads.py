"""How many cores one worker may use."""

import os
from functools import cache

import scipy.linalg.cython_blas  # noqa: F401  (the BLAS of compiled kernels, which is limited only once loaded)
import torch
from threadpoolctl import threadpool_limits

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def used_threads() -> int:
    """Return how many threads torch uses here."""
    return torch.get_num_threads()


def limit_threads(n: int = 1) -> None:
    """Let torch use n threads here and in processes started from here; the BLAS libraries here use one.

    Small networks run at a fraction of their speed when processes compete for cores, and only one thread
    adds numbers in the same order each time: a score that one BLAS thread computed does not replay bit for
    bit with two.
    """
    keep_blas_single()
    for variable in _VARIABLES:
        os.environ[variable] = str(n)
    torch.set_num_threads(n)


@cache
def keep_blas_single() -> None:
    """Let the BLAS of numpy and scipy, loaded as they are, use one thread here from now on.

    The products of compiled training are so small that threads would wait for each other most of the time.
    """
    threadpool_limits(limits=1, user_api="blas")
