"""Checks of the return arrays that the tests of luck read."""

import numpy as np

from envs.types import FloatArray
from optimize.errors import require


def one_series(returns: FloatArray, name: str) -> FloatArray:
    """Return a return series (T,) as floats; refuse another shape, NaN and infinity."""
    values = np.asarray(returns, dtype=np.float64)
    require(values.ndim == 1, f"{name} with shape", values.shape, "one series (T,)")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    require(bad == 0, f"{name} with not finite values", bad, "finite: leave those sessions out")
    return values


def return_matrix(returns: FloatArray, *, missing: bool) -> FloatArray:
    """Return a return matrix (T, N) as floats; refuse another shape, infinity and, unless `missing`, NaN."""
    values = np.asarray(returns, dtype=np.float64)
    require(values.ndim == 2, "returns with shape", values.shape, "a matrix (sessions, trials)")
    infinite = int(np.count_nonzero(np.isinf(values)))
    require(infinite == 0, "returns with infinite values", infinite, "finite, or NaN for a missing session")
    if not missing:
        absent = int(np.count_nonzero(np.isnan(values)))
        require(absent == 0, "returns with missing values", absent, "complete: leave out trials with gaps")
    return values
