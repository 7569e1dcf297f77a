"""Statistics of a trailing window, and how long a recursive average remembers.

TA-Lib keeps running sums over windows, whose rounding grows with the history and parts a tail from the whole.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from envs.types import BoolArray, FloatArray

FLAT = 1e-12  # a width narrower than this share of the price is none
FORGOTTEN = 1e-10  # share of a recursive average's seed that is left after its warm-up


def forget_bars(decay: float) -> int:
    """Return the bars after which decay**n < FORGOTTEN."""
    return math.ceil(math.log(FORGOTTEN) / math.log(decay))


def rolling(values: FloatArray, window: int, statistic: Callable[..., FloatArray]) -> FloatArray:
    """Return a statistic of the last window values, NaN before; statistic(rows, axis=1) reduces each."""
    result = np.full_like(values, np.nan)
    if len(values) >= window:
        result[window - 1 :] = statistic(sliding_window_view(values, window), axis=1)
    return result


def weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean of the last len(weights) values by those weights, the newest last; NaN before."""
    return rolling(values, len(weights), lambda rows, axis: np.average(rows, axis=axis, weights=weights))


def ratio(top: FloatArray, bottom: FloatArray, undefined: BoolArray) -> FloatArray:
    """Return top / bottom, 0 where undefined."""
    result: FloatArray = np.where(undefined, 0.0, top / np.where(undefined, 1.0, bottom))
    return result


def log_return(close: FloatArray) -> FloatArray:
    """Return log(close / previous close), NaN in the first row."""
    result = np.full_like(close, np.nan)
    result[1:] = np.log(close[1:] / close[:-1])
    return result
