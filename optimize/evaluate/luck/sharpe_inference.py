"""Inference on one Sharpe ratio per observation, from its moments. Kurtosis is Pearson's (normal: 3).

A NaN Sharpe ratio gives NaN. A function whose name ends in `under_null` estimates the variance at the
benchmark (Lopez de Prado, Lipton & Zoonekynd 2025), the others at the observed ratio: a stored number needs
its form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.luck.returns import one_series
from optimize.evaluate.metrics import sharpe_ratio

EXACT_BELOW_TRIALS = 5  # the asymptotic expected maximum is 2.5 % too high at 5 trials and worse below
_ROUNDING = 1e-9  # of moments that fulfil kurtosis >= 1 + skewness^2 with equality
_GRID = np.arange(-1500, 1501) * 0.01  # the trapezoid rule on it is exact to rounding for smooth densities


@dataclass(frozen=True)
class SharpeMoments:
    """Moments of one return series that the inference needs; NaN for a constant series."""

    sharpe: float  # per observation, ddof 1
    n_observations: int
    skewness: float
    kurtosis: float
    autocorrelation: float  # first order


def sharpe_moments(returns: FloatArray) -> SharpeMoments:
    """Return the Sharpe ratio, skewness, Pearson kurtosis and first autocorrelation of returns (T,)."""
    values = one_series(returns, "returns")
    sharpe = sharpe_ratio(values, 1.0)
    if np.isnan(sharpe):
        return SharpeMoments(sharpe, len(values), np.nan, np.nan, np.nan)
    unit = (values - values.mean()) / values.std()
    first_lag = float(unit[1:] @ unit[:-1]) / len(unit)
    return SharpeMoments(sharpe, len(values), float(np.mean(unit**3)), float(np.mean(unit**4)), first_lag)


def probabilistic_sharpe_ratio(
    *, sharpe: float, benchmark: float, n_observations: int, skewness: float, kurtosis: float
) -> float:
    """Return the probability that a true Sharpe ratio exceeds a benchmark (Bailey & Lopez de Prado 2012)."""
    _require_observations(n_observations)
    variance = _variance(sharpe, skewness, kurtosis, 0.0)
    return float(norm.cdf(_ratio(sharpe - benchmark, variance / (n_observations - 1))))


def minimum_track_record_length(
    *, sharpe: float, benchmark: float, skewness: float, kurtosis: float, confidence: float
) -> float:
    """Return the observations that put a Sharpe ratio above a benchmark (Bailey & Lopez de Prado 2012).

    It is infinite where the ratio does not exceed the benchmark.
    """
    variance = _variance(sharpe, skewness, kurtosis, 0.0)
    return 1.0 + variance * _squared_quantile_per_lead(sharpe - benchmark, confidence)


def deflated_sharpe_ratio(
    *,
    sharpe: float,
    n_observations: int,
    skewness: float,
    kurtosis: float,
    n_trials: float,
    sharpe_variance: float,
) -> float:
    """Return the probability that the best of many Sharpe ratios beats chance (Bailey & Lopez de Prado 2014).

    The benchmark is the expected maximum of `n_trials` ratios without skill. `sharpe_variance` is the
    variance of the trials' ratios per observation. A decision at 95 % fires on noise far less often than in 5
    % of cases.
    """
    chance = expected_maximum_sharpe(n_trials=n_trials, sharpe_variance=sharpe_variance)
    return probabilistic_sharpe_ratio(
        sharpe=sharpe,
        benchmark=chance,
        n_observations=n_observations,
        skewness=skewness,
        kurtosis=kurtosis,
    )


def expected_maximum_sharpe(*, n_trials: float, sharpe_variance: float) -> float:
    """Return the Sharpe ratio that the best of independent trials without skill is expected to show.

    The form of Bailey & Lopez de Prado (2014) from 5 trials on, the exact integral below.
    """
    require(n_trials >= 1, "n_trials", n_trials, "at least 1")
    require(not sharpe_variance < 0, "sharpe_variance", sharpe_variance, "at least 0")
    if n_trials < EXACT_BELOW_TRIALS:
        mean = maximum_normal_moments(n_trials=n_trials)[0]
    else:
        upper, outer = norm.isf(1 / n_trials), norm.isf(1 / (n_trials * np.e))
        mean = float((1 - np.euler_gamma) * upper + np.euler_gamma * outer)
    return float(np.sqrt(sharpe_variance)) * mean


@lru_cache(maxsize=1024)
def maximum_normal_moments(*, n_trials: float, correlation: float = 0.0) -> tuple[float, float]:
    """Return the exact mean and standard deviation of the maximum of equicorrelated standard normals.

    The maximum of independent ones is integrated (David & Nagaraja 2003, chapter 3); a common part of the
    share `correlation` of the variance scales it and adds its own variance.
    """
    require(n_trials >= 1, "n_trials", n_trials, "at least 1")
    require(0 <= correlation <= 1, "correlation", correlation, "between 0 and 1")
    density = np.exp(np.log(n_trials) + norm.logpdf(_GRID) + (n_trials - 1) * norm.logcdf(_GRID))
    step = _GRID[1] - _GRID[0]
    mean = float(np.sum(_GRID * density) * step)
    variance = float(np.sum((_GRID - mean) ** 2 * density) * step)
    common = float(np.sqrt(correlation + (1 - correlation) * variance))
    return float(np.sqrt(1 - correlation)) * mean, common


def sharpe_standard_deviation(
    *, sharpe: float, n_observations: int, skewness: float, kurtosis: float, autocorrelation: float = 0.0
) -> float:
    """Return the standard deviation of an estimated Sharpe ratio of autocorrelated, non-normal returns.

    Lopez de Prado, Lipton & Zoonekynd (2025), with returns of first-order autocorrelation.
    """
    _require_observations(n_observations)
    return float(np.sqrt(_variance(sharpe, skewness, kurtosis, autocorrelation) / n_observations))


def probabilistic_sharpe_ratio_under_null(
    *,
    sharpe: float,
    benchmark: float,
    n_observations: int,
    skewness: float,
    kurtosis: float,
    autocorrelation: float = 0.0,
) -> float:
    """Return the probabilistic Sharpe ratio with the variance at the benchmark.

    Lopez de Prado, Lipton & Zoonekynd (2025); one minus it is a p-value.
    """
    _require_observations(n_observations)
    variance = _variance(benchmark, skewness, kurtosis, autocorrelation)
    return float(norm.cdf(_ratio(sharpe - benchmark, variance / n_observations)))


def minimum_track_record_length_under_null(
    *,
    sharpe: float,
    benchmark: float,
    skewness: float,
    kurtosis: float,
    confidence: float,
    autocorrelation: float = 0.0,
) -> float:
    """Return the minimum track record length with the variance at the benchmark.

    Lopez de Prado, Lipton & Zoonekynd (2025); infinite where the ratio does not exceed the benchmark.
    """
    variance = _variance(benchmark, skewness, kurtosis, autocorrelation)
    return variance * _squared_quantile_per_lead(sharpe - benchmark, confidence)


def sharpe_standard_error(*, sharpe: float, n_observations: int) -> float:
    """Return the standard error of a Sharpe ratio of independent normal returns (Lo 2002)."""
    return sharpe_standard_deviation(sharpe=sharpe, n_observations=n_observations, skewness=0.0, kurtosis=3.0)


def time_aggregation_factor(*, periods: int, autocorrelations: float | Sequence[float]) -> float:
    """Return Lo's (2002) eta: the factor from a Sharpe ratio per observation to one of several periods.

    `autocorrelations` are those at lags 1 to periods - 1; a single number is that of a first-order process.
    """
    require(periods >= 1, "periods", periods, "at least 1")
    lags = np.arange(1, periods)
    if isinstance(autocorrelations, int | float):
        require(-1 < autocorrelations < 1, "autocorrelations", autocorrelations, "between -1 and 1")
        correlations = np.power(float(autocorrelations), lags)
    else:
        count = len(autocorrelations)
        require(count == len(lags), "autocorrelations", count, f"one for each lag: {len(lags)} numbers")
        correlations = np.asarray(autocorrelations, dtype=np.float64)
    variance = periods + 2.0 * float(np.sum((periods - lags) * correlations))
    return periods / float(np.sqrt(variance)) if variance > 0 else float("nan")


def _variance(sharpe: float, skewness: float, kurtosis: float, autocorrelation: float) -> float:
    """Return the variance of an estimated Sharpe ratio times the number of observations."""
    require(
        not kurtosis < 1 + skewness**2 - _ROUNDING,
        "kurtosis",
        kurtosis,
        f"at least 1 + skewness^2 = {1 + skewness**2:.6g} (Pearson's, 3 for a normal: not the excess)",
    )
    require(not abs(autocorrelation) >= 1, "autocorrelation", autocorrelation, "between -1 and 1")
    linear = autocorrelation / (1 - autocorrelation)
    squared = autocorrelation**2 / (1 - autocorrelation**2)
    return (
        (1 + 2 * linear)
        - (1 + linear + squared) * skewness * sharpe
        + (1 + 2 * squared) * (kurtosis - 1) / 4 * sharpe**2
    )


def _ratio(lead: float, variance: float) -> float:
    return lead / float(np.sqrt(variance)) if variance > 0 else float("nan")


def _squared_quantile_per_lead(lead: float, confidence: float) -> float:
    require(0.5 < confidence < 1, "confidence", confidence, "between 0.5 and 1")
    if lead <= 0:
        return float("inf")
    return float(norm.ppf(confidence) / lead) ** 2


def _require_observations(n_observations: int) -> None:
    require(n_observations >= 2, "n_observations", n_observations, "at least 2")
