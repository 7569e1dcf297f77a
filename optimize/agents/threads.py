"""CPU threads of torch and BLAS in one worker."""

import os
from functools import cache

import scipy.linalg.cython_blas  # noqa: F401  (the BLAS of compiled kernels, which is limited only once loaded)
import torch
from threadpoolctl import threadpool_limits

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def thread_count() -> int:
    """Return the number of threads that torch uses here."""
    return torch.get_num_threads()


def limit_threads(n: int = 1) -> None:
    """Limit torch to n threads here and in child processes, and the BLAS libraries here to one.

    Small networks slow down severely when processes compete for cores, and only a single thread adds numbers
    in a fixed order: a score computed with one BLAS thread does not replay bit for bit with two.
    """
    limit_blas_threads()
    for variable in _VARIABLES:
        os.environ[variable] = str(n)
    torch.set_num_threads(n)


@cache
def limit_blas_threads() -> None:
    """Limit the loaded BLAS libraries of numpy and scipy to one thread.

    The matrices of compiled training are so small that several threads would mostly wait.
    """
    threadpool_limits(limits=1, user_api="blas")
