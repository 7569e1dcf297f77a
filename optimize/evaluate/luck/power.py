"""Power of the verdict: the Sharpe ratio per observation that a number of sessions can detect."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from optimize.errors import require
from optimize.evaluate.luck.maximum import equivalent_degrees
from optimize.evaluate.luck.resampling import covariance_weights
from optimize.evaluate.precision import POWER

_LARGEST_SHARPE = 1e6  # per observation


def detectable_sharpe(
    *,
    critical_value: float,
    n_sessions: int,
    block_length: float = 1.0,
    variance_ratio: float = 1.0,
    power: float = POWER,
) -> float:
    """Return the smallest Sharpe ratio per session that one more column needs to be found with a probability.

    The four numbers are fields of `MaximumTest`. The column's statistic is found where it exceeds the
    critical value; its variance under the alternative is that of the delta method for normal returns.
    Infinite where no ratio suffices: a statistic over the root of its sum of squares is at most the root of
    the sessions.
    """
    require(n_sessions >= 2, "n_sessions", n_sessions, "at least 2")
    require(block_length >= 1, "block_length", block_length, "at least 1 session")
    require(not variance_ratio <= 0, "variance_ratio", variance_ratio, "above 0")
    require(0 < power < 1, "power", power, "between 0 and 1")
    if np.isnan(critical_value) or np.isnan(variance_ratio):
        return float("nan")
    degrees = equivalent_degrees(n_sessions, covariance_weights(n_sessions, block_length))
    tail = norm.sf(critical_value)
    needed = float(student.isf(tail, degrees)) if tail > 0 else float("inf")

    def surplus(sharpe: float) -> float:
        square = 1 + sharpe**2
        mean = np.sqrt(n_sessions / variance_ratio) * sharpe / np.sqrt(square)
        deviation = np.sqrt(1 + sharpe**2 / 2) / square**1.5
        return float(mean - norm.ppf(power) * deviation - needed)

    if surplus(0.0) >= 0:
        return 0.0
    return float(brentq(surplus, 0.0, _LARGEST_SHARPE)) if surplus(_LARGEST_SHARPE) > 0 else float("inf")


def sidak_critical_value(*, n_trials: float, confidence: float) -> float:
    """Return the quantile of the maximum of independent standard normals (Sidak 1967)."""
    require(n_trials >= 1, "n_trials", n_trials, "at least 1")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    return float(norm.isf(-np.expm1(np.log(confidence) / n_trials)))


def sessions_to_detect(
    *, sharpe: float, n_trials: float, confidence: float = 0.95, power: float = POWER
) -> float:
    """Return the sessions that detect a true Sharpe ratio per session after independent trials.

    The minimum track record length of normal returns (Bailey & Lopez de Prado 2012), with Sidak's critical
    value and the quantile of the power added to it; infinite where the ratio is not above 0.
    """
    require(0 < power < 1, "power", power, "between 0 and 1")
    quantile = sidak_critical_value(n_trials=n_trials, confidence=confidence) + float(norm.ppf(power))
    if sharpe <= 0:
        return float("inf")
    return 1.0 + (1 + sharpe**2 / 2) * (quantile / sharpe) ** 2
