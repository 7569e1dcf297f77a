"""Intervals and paired tests of Sharpe ratios per observation, from return series.

Moments divide by the number of observations, as in the papers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.luck.resampling import (
    covariance_weights,
    optimal_block,
    stationary_draws,
    variance_ratio,
)
from optimize.evaluate.luck.returns import one_series
from optimize.evaluate.metrics import sharpe_ratio

MIN_OBSERVATIONS = 20  # of an interval: the variance of a replicate has no meaning with fewer
CHUNK_CELLS = 2**20  # of replicates times observations in memory at once


@dataclass(frozen=True)
class PairedSharpeTest:
    """Test of equal Sharpe ratios; all NaN where either series is constant."""

    difference: float  # of the first over the second
    standard_error: float
    z: float
    p_value: float  # two-sided


@dataclass(frozen=True)
class SharpeInterval:
    """Confidence interval of one Sharpe ratio; bounds NaN where the series is constant or too short."""

    sharpe: float  # per observation, ddof 1
    lower: float
    upper: float
    standard_error: float
    confidence: float
    block_length: float
    n_bootstraps: int
    seed: int


def ledoit_wolf_test(*, first: FloatArray, second: FloatArray, lag: int | None = None) -> PairedSharpeTest:
    """Test two paired series (T,) for equal Sharpe ratios (Ledoit & Wolf 2008, section 3.1).

    The standard error is that of the delta method with a Bartlett kernel of `lag` lags and the paper's factor
    T / (T - 4); without `lag`, 4 (T / 100)^(2/9) lags (Newey & West 1994).
    """
    pair = _pair(first, second)
    n_observations = pair.shape[1]
    if lag is None:
        lag = min(int(4.0 * (n_observations / 100.0) ** (2.0 / 9.0)), n_observations - 1)
    require(0 <= lag < n_observations, "lag", lag, f"between 0 and {n_observations - 1}")
    if not _both_vary(pair):
        return _UNDEFINED
    square = pair**2
    mean, second_moment = pair.mean(axis=1), square.mean(axis=1)
    variance = second_moment - mean**2
    gradient: FloatArray = np.concatenate((second_moment, -0.5 * mean)) / np.tile(variance, 2) ** 1.5
    gradient *= np.array([1.0, -1.0, 1.0, -1.0])
    influence: FloatArray = gradient @ np.concatenate((pair - mean[:, None], square - second_moment[:, None]))
    total = float(influence @ influence)
    for each in range(1, lag + 1):
        total += 2 * (1 - each / (lag + 1)) * float(influence[each:] @ influence[:-each])
    return _test(pair, np.sqrt(total / n_observations / (n_observations - 4)))


def jobson_korkie_memmel_test(*, first: FloatArray, second: FloatArray) -> PairedSharpeTest:
    """Test two paired series (T,) of normal independent returns for equal Sharpe ratios (Memmel 2003)."""
    pair = _pair(first, second)
    if not _both_vary(pair):
        return _UNDEFINED
    one, two = _plain_ratios(pair)
    correlation = float(np.asarray(np.corrcoef(pair))[0, 1])
    variance = 2 - 2 * correlation + (one**2 + two**2 - 2 * one * two * correlation**2) / 2
    return _test(pair, np.sqrt(max(variance, 0.0) / pair.shape[1]))


def sharpe_interval(
    *,
    returns: FloatArray,
    confidence: float = 0.95,
    n_bootstraps: int = 1000,
    seed: int = 0,
    block_length: float | None = None,
) -> SharpeInterval:
    """Return the studentised stationary-bootstrap interval of the Sharpe ratio of returns (T,).

    Ledoit & Wolf (2008, section 3.2) for one series: each replicate has a standard error of its own, by the
    delta method with the variance that the stationary bootstrap implies (Politis & Romano 1994). Without
    `block_length` it is that of Politis & White for the influence of the observations.
    """
    values = one_series(returns, "returns")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    require(n_bootstraps >= 1, "n_bootstraps", n_bootstraps, "at least 1")
    require(block_length is None or block_length >= 1, "block_length", block_length, "at least 1 observation")
    sharpe = sharpe_ratio(values, 1.0)
    nan = float("nan")
    if np.isnan(sharpe) or len(values) < MIN_OBSERVATIONS:
        length = nan if block_length is None else float(block_length)
        return SharpeInterval(sharpe, nan, nan, nan, confidence, length, n_bootstraps, seed)
    if block_length is None:
        block_length = min(optimal_block([_influence(values[:, None])[1][:, 0]]), len(values) / 4)
    weights = covariance_weights(len(values), block_length)
    centre, error = (float(each[0]) for each in _sharpes(values[:, None], weights))
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // len(values))
    studentised: list[FloatArray] = []
    for start in range(0, n_bootstraps, chunk):
        draws = stationary_draws(
            generator,
            n_bootstraps=min(chunk, n_bootstraps - start),
            n_sessions=len(values),
            block_length=block_length,
        )
        replicated, deviation = _sharpes(values[draws].T, weights)
        studentised.append((replicated - centre) / deviation)
    tail = (1 - confidence) / 2
    defined = np.concatenate(studentised)
    low, high = np.quantile(defined[np.isfinite(defined)], [tail, 1 - tail])
    return SharpeInterval(
        sharpe=sharpe,
        lower=sharpe - float(high) * error,
        upper=sharpe - float(low) * error,
        standard_error=error,
        confidence=confidence,
        block_length=float(block_length),
        n_bootstraps=n_bootstraps,
        seed=seed,
    )


_UNDEFINED = PairedSharpeTest(float("nan"), float("nan"), float("nan"), float("nan"))


def _pair(first: FloatArray, second: FloatArray) -> FloatArray:
    one, two = one_series(first, "first"), one_series(second, "second")
    require(len(one) == len(two), "second", len(two), f"as long as first: {len(one)} returns")
    require(len(one) > 4, "first", len(one), "at least 5 returns")
    return np.stack((one, two))


def _both_vary(pair: FloatArray) -> bool:
    return not any(np.isnan(sharpe_ratio(each, 1.0)) for each in pair)


def _plain_ratios(pair: FloatArray) -> tuple[float, float]:
    one, two = (float(each.mean() / each.std()) for each in pair)
    return one, two


def _test(pair: FloatArray, error: float) -> PairedSharpeTest:
    """Return the test of a difference; without a standard error, of one series with itself, z is NaN."""
    one, two = _plain_ratios(pair)
    difference = one - two
    z = difference / float(error) if error > 1e-12 else float("nan")
    return PairedSharpeTest(difference, float(error), z, float(2 * norm.sf(abs(z))))


def _influence(columns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the Sharpe ratio of columns (T, N), and the influence (T, N) of each return on it."""
    deviation = columns.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a replicate may be constant: NaN, and left out
        unit = (columns - columns.mean(axis=0)) / deviation
        sharpe = columns.mean(axis=0) / deviation
    return sharpe, unit - 0.5 * sharpe * (unit**2 - 1.0)


def _sharpes(columns: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the Sharpe ratio of columns (T, N) and its standard error."""
    sharpe, influence = _influence(columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(variance_ratio(influence, weights), 0.1)
        error = np.sqrt(np.sum(influence**2, axis=0) * ratio) / len(columns)
    return sharpe, error
