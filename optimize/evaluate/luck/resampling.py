"""Stationary bootstrap (Politis & Romano 1994): its draws, the variance that they imply, its block length."""

import warnings
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from scipy.fft import irfft, rfft

from envs.types import FloatArray, IntArray


def stationary_draws(
    generator: np.random.Generator, *, n_bootstraps: int, n_sessions: int, block_length: float
) -> IntArray:
    """Return the sessions (n_bootstraps, n_sessions) that the stationary bootstrap draws.

    The draws of a replicate depend on the generator and the replicates before it, not on `n_bootstraps`.
    """
    uniform = generator.random((n_bootstraps, 2, n_sessions))
    begins = uniform[:, 0] < 1 / block_length
    begins[:, 0] = True
    position = np.arange(n_sessions)
    begun = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    first = np.take_along_axis((uniform[:, 1] * n_sessions).astype(np.int64), begun, axis=1)
    return (first + position - begun) % n_sessions


def session_counts(draws: IntArray) -> FloatArray:
    """Return how often each replicate drew each session, (n_bootstraps, n_sessions)."""
    n_bootstraps, n_sessions = draws.shape
    cells = draws + np.arange(n_bootstraps)[:, None] * n_sessions
    counts = np.bincount(cells.ravel(), minlength=n_bootstraps * n_sessions)
    return counts.reshape(n_bootstraps, n_sessions).astype(np.float64)


def covariance_weights(n_sessions: int, block_length: float) -> FloatArray:
    """Return the weights (n_sessions,) of circular autocovariances in the bootstrap's variance."""
    stay = 1 - 1 / block_length
    lag = np.arange(n_sessions)
    share = lag / max(n_sessions, 1)
    weights = (1 - share) * stay**lag + share * stay ** (n_sessions - lag)
    return np.where(lag == 0, 1.0, weights)


def variance_ratio(centred: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the bootstrap's variance of the mean over that of independent sessions, along the first axis.

    `centred` (T, N) has mean zero, and 0 in missing sessions.
    """
    power = np.abs(rfft(centred, axis=0)) ** 2
    covariance = irfft(power, n=len(centred), axis=0)
    total = np.tensordot(weights, covariance, axes=1)
    ratio: FloatArray = total / covariance[0]
    return ratio


def optimal_block(series: Iterable[FloatArray]) -> float:
    """Return the mean of the optimal block lengths of series, each at least 1.

    Politis & White (2004), corrected 2009; a series on which the rule finds none is left out.
    """
    from arch.bootstrap import optimal_block_length  # slow to import, and only the bootstraps need it

    by_length: dict[int, list[FloatArray]] = defaultdict(list)
    for each in series:
        by_length[len(each)].append(each)
    lengths: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without variance at some lag the length is NaN
        for equal in by_length.values():
            lengths.extend(optimal_block_length(np.column_stack(equal))["stationary"])
    finite = [max(1.0, float(length)) for length in lengths if np.isfinite(length)]
    return float(np.mean(finite)) if finite else 1.0
