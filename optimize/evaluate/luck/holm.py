"""Holm's correction of p-values for their number (1979)."""

import numpy as np

from envs.types import FloatArray


def holm(p_values: FloatArray) -> FloatArray:
    """Return the p-values (N,) at which each hypothesis is rejected, whatever the dependence of the tests."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
