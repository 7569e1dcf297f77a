"""The interval of a fresh score: of the lower median over the seeds of a parameter set."""

import numpy as np

from envs.types import BoolArray, FloatArray
from optimize.evaluate.luck.resampling import optimal_block, session_counts, stationary_draws
from optimize.evaluate.metrics import RELATIVE_ROUNDING

REPLICATES = 2000
LOWER, UPPER = 0.05, 0.95  # of the interval: each end is a one-sided 95 % bound


def fresh_interval(
    returns: FloatArray,
    feasible: BoolArray,
    *,
    sessions_per_year: float,
    risk_free: float,
    seed: int,
    n_bootstraps: int = REPLICATES,
) -> tuple[float | None, float | None]:
    """Return the 5 % and 95 % of the bootstrapped lower median of the seeds' annualised Sharpe ratios.

    returns (S, T) holds a row of session returns for each seed; rows that are not feasible (S,) count below
    every number, and an end that falls on one is None. Sessions are drawn by the stationary bootstrap, alike
    for all seeds because they trade the same sessions, and seeds independently: the interval has the error
    of the market and that of the seed.
    """
    seeds, sessions = returns.shape
    excess = returns - risk_free / sessions_per_year
    generator = np.random.default_rng(seed)
    block = optimal_block(list(excess[feasible])) if feasible.any() and sessions > 1 else 1.0
    draws = stationary_draws(
        generator, n_bootstraps=n_bootstraps, n_sessions=sessions, block_length=min(block, sessions)
    )
    counts = session_counts(draws)
    mean = counts @ excess.T / sessions
    variance = np.maximum(counts @ (excess**2).T / sessions - mean**2, 0.0) * sessions / max(sessions - 1, 1)
    spread = np.sqrt(variance)
    defined = (spread > RELATIVE_ROUNDING * np.abs(mean)) & feasible
    ratios = np.where(defined, mean / np.where(defined, spread, 1.0), -np.inf) * np.sqrt(sessions_per_year)
    drawn = generator.integers(seeds, size=(n_bootstraps, seeds))
    medians = np.sort(np.take_along_axis(ratios, drawn, axis=1), axis=1)[:, (seeds - 1) // 2]
    low, high = np.quantile(medians, (LOWER, UPPER), method="inverted_cdf")
    return _finite(low), _finite(high)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
