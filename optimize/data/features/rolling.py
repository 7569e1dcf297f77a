"""Statistics of a trailing window, and the memory of recursive averages.

TA-Lib's windows are running sums: their rounding error grows with the history, so a tail of the bars would
give other values than all bars.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from envs.types import BoolArray, FloatArray

FLAT = 1e-12  # share of the price; a narrower band counts as having no width
FORGOTTEN = 1e-10  # weight of a recursive average's first value after the warm-up


def forget_bars(decay: float) -> int:
    """Return the smallest n with decay**n < FORGOTTEN."""
    return math.ceil(math.log(FORGOTTEN) / math.log(decay))


def rolling(values: FloatArray, window: int, statistic: Callable[..., FloatArray]) -> FloatArray:
    """Return statistic(rows, axis=1) of the last `window` values, NaN before the first full window."""
    result = np.full_like(values, np.nan)
    if len(values) >= window:
        result[window - 1 :] = statistic(sliding_window_view(values, window), axis=1)
    return result


def weighted(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean of the last len(weights) values, newest last; NaN before a full window."""
    return rolling(values, len(weights), lambda rows, axis: np.average(rows, axis=axis, weights=weights))


def ratio(top: FloatArray, bottom: FloatArray, undefined: BoolArray) -> FloatArray:
    """Return top / bottom, 0 where undefined."""
    result: FloatArray = np.where(undefined, 0.0, top / np.where(undefined, 1.0, bottom))
    return result


def log_returns(close: FloatArray) -> FloatArray:
    """Return log(close / previous close), NaN in the first row."""
    result = np.full_like(close, np.nan)
    result[1:] = np.log(close[1:] / close[:-1])
    return result
