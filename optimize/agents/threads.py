"""How many cores one worker may use."""

import os

import torch

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def limit_threads(n: int = 1) -> None:
    """Let torch use n threads here, and torch and the BLAS libraries in processes started from here.

    Small networks run at a fraction of their speed when processes compete for cores, and only one thread
    adds numbers in the same order each time. A BLAS that is already loaded keeps its own count: to reach
    it, call this in the parent, or set the variables, before the worker starts.
    """
    for variable in _VARIABLES:
        os.environ[variable] = str(n)
    torch.set_num_threads(n)
