"""Studentised bootstrap maximum over all trials: the primary verdict on luck.

White (2000) and Romano & Wolf (2005), with columns divided by standard errors that are robust to
autocorrelation. Four choices hold the size with a few hundred sessions. The variance is that under the null,
of the raw returns around zero, so that a short column cannot show a large statistic by a small variance. In a
replicate it is computed anew, so that heavy tails and clusters of volatility move both sides alike. The
observed standard error is prewhitened (Andrews & Monahan 1992), since the blocks of a bootstrap miss part of
the autocorrelation. Its own noise is removed by the quantiles of Student's t at its equivalent degrees of
freedom.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from envs.types import BoolArray, FloatArray, IntArray
from optimize.errors import BadInputError, require
from optimize.evaluate.luck.resampling import (
    covariance_weights,
    optimal_block,
    session_counts,
    stationary_draws,
    variance_ratio,
)
from optimize.evaluate.luck.returns import one_series, return_matrix
from optimize.evaluate.metrics import RELATIVE_ROUNDING

BLOCK_FACTOR = (
    2.0  # blocks for a test are longer than those of the least squared error (Sun, Phillips & Jin 2008)
)
BLOCK_COLUMNS = 20  # the block length is the mean over this many columns, the largest in absolute value
LARGEST_BLOCK = 0.25  # of the sessions
MIN_RATIO = 0.1  # of a long-run variance to the variance of independent sessions
LARGEST_AUTOCORRELATION = 0.9
CHUNK_COLUMNS = 1024
CHUNK_BOOTSTRAPS = 512
_SMALLEST_TAIL = 1e-300


@dataclass(frozen=True)
class MaximumTest:
    """Verdict on the best of all columns; a column without a statistic has NaN and takes no part."""

    statistic: float  # of the best column, in standard errors of a normal; NaN: no column has one
    critical_value: float  # at the confidence; infinite: too few bootstraps for it
    p_value: float  # of the maximum, never 0
    confidence: float
    best: int | None  # the column of the maximum
    statistics: FloatArray  # (N,)
    single_step: FloatArray  # (N,) p-values adjusted for all columns
    step_down: FloatArray  # (N,) p-values of Romano & Wolf (2005): at most those of the single step
    n_columns: int  # that have a statistic
    n_sessions: int  # in which any column has a return
    block_length: float  # mean length, in sessions
    variance_ratio: float  # median over columns of the long-run variance to that of independent sessions
    n_bootstraps: int
    seed: int

    @property
    def significant(self) -> bool:
        """Return whether the best column beats the critical value: then p_value <= 1 - confidence."""
        return self.statistic > self.critical_value


@dataclass(frozen=True)
class _Columns:
    """Columns that have a statistic, ascending by it, and the sessions in which any column has a return."""

    index: IntArray  # of the column in the input
    statistic: FloatArray
    scale: FloatArray  # sqrt of the bootstrap's own variance ratio
    ratio: FloatArray  # long-run variance to the variance of independent sessions


def bootstrap_maximum(
    *,
    returns: FloatArray,
    benchmark: float | FloatArray = 0.0,
    confidence: float = 0.95,
    n_bootstraps: int = 1000,
    seed: int = 0,
    block_length: float | None = None,
    min_sessions: int = 20,
    n_unknown: int = 0,
) -> MaximumTest:
    """Test whether the best of the columns of returns (T, N) has a mean above that of the benchmark.

    A NaN return is a session that the trial did not reach; columns with fewer than `min_sessions` returns and
    constant ones have no statistic. `benchmark` is a return per session, or one for each session (T,). The
    stationary bootstrap draws whole sessions; without `block_length` the length follows Politis & White.
    `n_unknown` further trials, whose returns are not known, count as independent standard normal statistics:
    every replicate takes their maximum too.
    """
    require(n_unknown >= 0, "n_unknown", n_unknown, "at least 0")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    require(n_bootstraps >= 1, "n_bootstraps", n_bootstraps, "at least 1")
    require(min_sessions >= 2, "min_sessions", min_sessions, "at least 2")
    excess = _excess(returns, benchmark)
    plain = _plain_statistics(excess, min_sessions)
    sessions = len(excess)
    if block_length is None:
        block_length = _block_length(excess, plain)
    require(block_length >= 1, "block_length", block_length, "at least 1 session")
    columns = _columns(excess, plain, block_length)
    statistics, single_step, step_down = (np.full(excess.shape[1], np.nan) for _ in range(3))
    critical = best = None
    if len(columns.index):
        unknown = _unknown_maxima(n_unknown, n_bootstraps, seed)
        maxima, exceeded = _bootstrap(excess, columns, block_length, unknown, seed)
        best = int(columns.index[-1])
        critical = _critical_value(maxima, confidence)
        higher = n_bootstraps - np.searchsorted(np.sort(maxima), columns.statistic, side="left")
        stepped = np.maximum.accumulate(exceeded[::-1])[::-1]  # no better column has a larger p-value
        statistics[columns.index] = columns.statistic
        single_step[columns.index] = (1 + higher) / (n_bootstraps + 1)
        step_down[columns.index] = (1 + stepped) / (n_bootstraps + 1)
    return MaximumTest(
        statistic=float("nan") if best is None else float(statistics[best]),
        critical_value=float("nan") if critical is None else critical,
        p_value=float("nan") if best is None else float(single_step[best]),
        confidence=confidence,
        best=best,
        statistics=statistics,
        single_step=single_step,
        step_down=step_down,
        n_columns=len(columns.index),
        n_sessions=sessions,
        block_length=float(block_length),
        variance_ratio=float(np.median(columns.ratio)) if len(columns.index) else float("nan"),
        n_bootstraps=n_bootstraps,
        seed=seed,
    )


def _excess(returns: FloatArray, benchmark: float | FloatArray) -> FloatArray:
    """Return the returns beyond the benchmark, without the sessions in which no column has one."""
    values = return_matrix(returns, missing=True)
    against = np.asarray(benchmark, dtype=np.float64)
    if against.ndim:
        against = one_series(against, "benchmark")
        require(
            len(against) == len(values),
            "benchmark",
            len(against),
            f"one return for each of {len(values)} sessions",
        )
        against = against[:, None]
    elif not np.isfinite(against):
        raise BadInputError(f"benchmark={float(against)} is not allowed: benchmark must be finite")
    return (values - against)[~np.isnan(values).all(axis=1)]


def _chunks(columns: IntArray) -> Iterator[slice]:
    for start in range(0, len(columns), CHUNK_COLUMNS):
        yield slice(start, start + CHUNK_COLUMNS)


def _filled(excess: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return the returns and those less their column's mean, 0 where missing, and where they exist."""
    present = ~np.isnan(excess)
    raw = np.where(present, excess, 0.0)
    mean = raw.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    return raw, np.where(present, excess - mean, 0.0), present


def _plain_statistics(excess: FloatArray, min_sessions: int) -> FloatArray:
    """Return each column's sum over the root of its sum of squares; NaN for short and constant columns."""
    statistic = np.full(excess.shape[1], np.nan)
    for chunk in _chunks(np.arange(excess.shape[1])):
        raw, centred, present = _filled(excess[:, chunk])
        square = np.sum(raw**2, axis=0)
        varied = np.sum(centred**2, axis=0) > RELATIVE_ROUNDING**2 * square
        usable = varied & (present.sum(axis=0) >= min_sessions)
        statistic[chunk][usable] = (raw.sum(axis=0)[usable]) / np.sqrt(square[usable])
    return statistic


def _block_length(excess: FloatArray, plain: FloatArray) -> float:
    """Return the block length of the columns with the largest statistics; equal columns count once."""
    usable = np.flatnonzero(~np.isnan(plain))
    if len(usable) == 0:
        return 1.0
    _, first = np.unique(np.round(plain[usable], 9), return_index=True)
    distinct = usable[first]
    leading = distinct[np.argsort(-np.abs(plain[distinct]), kind="stable")][:BLOCK_COLUMNS]
    series = [column[~np.isnan(column)] for column in excess[:, leading].T]
    return min(max(1.0, BLOCK_FACTOR * optimal_block(series)), max(1.0, LARGEST_BLOCK * len(excess)))


def _columns(excess: FloatArray, plain: FloatArray, block_length: float) -> _Columns:
    """Return the robust statistics of the columns, sorted."""
    index = np.flatnonzero(~np.isnan(plain))
    weights = covariance_weights(len(excess), block_length)
    statistic, scale, ratio = (np.empty(len(index)) for _ in range(3))
    for chunk in _chunks(index):
        _, centred, present = _filled(excess[:, index[chunk]])
        count = present.sum(axis=0)
        scale[chunk] = np.sqrt(np.maximum(variance_ratio(centred, weights), MIN_RATIO))
        ratio[chunk] = _prewhitened_ratio(centred, present, weights)
        robust = plain[index[chunk]] / np.sqrt(ratio[chunk])
        statistic[chunk] = _normal_scores(robust, equivalent_degrees(count, weights))
    order = np.argsort(statistic, kind="stable")
    return _Columns(index[order], statistic[order], scale[order], ratio[order])


def _prewhitened_ratio(centred: FloatArray, present: BoolArray, weights: FloatArray) -> FloatArray:
    """Return the long-run variance of columns over their variance (Andrews & Monahan 1992).

    The filter is a first-order autoregression without its bias of (1 + 3 rho) / n; the variance of what is
    left has the bootstrap's weights, without the bias from the estimated mean.
    """
    count = present.sum(axis=0)
    square = np.sum(centred**2, axis=0)
    raw = np.sum(centred[1:] * centred[:-1], axis=0) / square
    rho = np.clip(raw + (1 + 3 * raw) / count, -LARGEST_AUTOCORRELATION, LARGEST_AUTOCORRELATION)
    pairs = present[1:] & present[:-1]
    n_pairs = np.maximum(pairs.sum(axis=0), 1)
    residual = np.where(pairs, centred[1:] - rho * centred[:-1], 0.0)
    residual = np.where(pairs, residual - residual.sum(axis=0) / n_pairs, 0.0)
    residual = np.concatenate((np.zeros((1, residual.shape[1])), residual))
    residual_square = np.sum(residual**2, axis=0)
    unbiased = np.maximum(1 - weights.sum() / count, MIN_RATIO)
    long_run = np.ones_like(square)
    moving = residual_square > RELATIVE_ROUNDING * square
    long_run[moving] = np.maximum(variance_ratio(residual[:, moving], weights), MIN_RATIO)
    innovation = residual_square / n_pairs / (square / count)
    ratio: FloatArray = np.maximum(innovation * long_run / unbiased / (1 - rho) ** 2, MIN_RATIO)
    return ratio


def equivalent_degrees(n_observations: IntArray | int, weights: FloatArray) -> FloatArray:
    """Return 2 over the squared coefficient of variation of a prewhitened variance."""
    kernel_noise = float(np.sum(weights[1:] ** 2)) / 2
    return np.asarray(n_observations / (2 * (1 + kernel_noise)), dtype=np.float64)


def _normal_scores(statistic: FloatArray, degrees: FloatArray) -> FloatArray:
    """Return the normal quantiles of Student t statistics, limited to +-37."""
    tail = np.maximum(student.sf(np.abs(statistic), degrees), _SMALLEST_TAIL)
    return np.asarray(np.sign(statistic) * norm.isf(tail), dtype=np.float64)


def _unknown_maxima(n_unknown: int, n_bootstraps: int, seed: int) -> FloatArray:
    """Return a draw of the maximum of independent standard normals for each replicate; -inf for none."""
    if not n_unknown:
        return np.full(n_bootstraps, -np.inf)
    below = np.random.default_rng([seed, n_unknown]).random(n_bootstraps)  # the replicates keep their draws
    tail = np.maximum(-np.expm1(np.log(np.maximum(below, _SMALLEST_TAIL)) / n_unknown), _SMALLEST_TAIL)
    return np.asarray(norm.isf(tail), dtype=np.float64)


def _bootstrap(
    excess: FloatArray, columns: _Columns, block_length: float, unknown: FloatArray, seed: int
) -> tuple[FloatArray, IntArray]:
    """Return the maximum of each replicate, and for each column how often the maximum reached it.

    That maximum is over the column, those with a smaller statistic, and the one in `unknown` (replicates,).
    """
    generator = np.random.default_rng(seed)
    n_bootstraps = len(unknown)
    maxima = np.empty(n_bootstraps)
    exceeded = np.zeros(len(columns.index), dtype=np.int64)
    for start in range(0, n_bootstraps, CHUNK_BOOTSTRAPS):
        size = min(CHUNK_BOOTSTRAPS, n_bootstraps - start)
        draws = stationary_draws(
            generator, n_bootstraps=size, n_sessions=len(excess), block_length=block_length
        )
        counts = session_counts(draws)
        running = unknown[start : start + size]
        for chunk in _chunks(columns.index):
            _, centred, _ = _filled(excess[:, columns.index[chunk]])
            replicated = counts @ centred
            deviation = np.sqrt(counts @ centred**2)
            replicated = np.divide(replicated, deviation, out=np.zeros_like(replicated), where=deviation > 0)
            replicated /= columns.scale[chunk]
            replicated[:, 0] = np.maximum(replicated[:, 0], running)
            np.maximum.accumulate(replicated, axis=1, out=replicated)
            running = replicated[:, -1].copy()
            exceeded[chunk] += np.count_nonzero(replicated >= columns.statistic[chunk], axis=0)
        maxima[start : start + size] = running
    return maxima, exceeded


def _critical_value(maxima: FloatArray, confidence: float) -> float:
    """Return the value that a statistic must exceed for a p-value of at most 1 - confidence."""
    allowed = int(np.floor((1 - confidence) * (len(maxima) + 1) + 1e-9))
    return float(np.sort(maxima)[-allowed]) if allowed else float("inf")
