"""Simulated session returns of many trials on one market, without skill."""

import numpy as np

from envs.types import FloatArray

CORRELATION = 0.5


def returns_without_skill(
    seed: int, *, kind: str, sessions: int = 250, trials: int = 50, correlation: float = CORRELATION
) -> FloatArray:
    """Return (sessions, trials) of mean zero and equal correlation; of `pruned`, half end half way.

    `mixed` has clusters of volatility, t(4) tails in every second trial, and every third trial ends half way.
    """
    rng = np.random.default_rng([seed, sessions, trials, len(kind)])
    shape = (sessions, trials)
    common, own = rng.standard_normal((sessions, 1)), rng.standard_normal(shape)
    if kind == "t4":
        common, own = (rng.standard_t(4, size=each.shape) / np.sqrt(2) for each in (common, own))
    if kind == "mixed":
        own[:, ::2] = rng.standard_t(4, size=own[:, ::2].shape) / np.sqrt(2)
    returns = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    if kind in ("garch", "mixed"):
        returns *= clustered_volatility(rng, sessions)[:, None]
    if kind == "autocorrelated":
        for row in range(1, sessions):
            returns[row] = 0.2 * returns[row - 1] + np.sqrt(1 - 0.04) * returns[row]
    if kind == "pruned":
        returns[sessions // 2 :, ::2] = np.nan
    if kind == "mixed":
        returns[sessions // 2 :, ::3] = np.nan
    return np.asarray(0.01 * returns)


def clustered_volatility(rng: np.random.Generator, sessions: int) -> FloatArray:
    """Return a volatility (sessions,) that follows a GARCH(1, 1) process of mean variance 1."""
    shocks = rng.standard_normal(sessions) ** 2
    variance = np.ones(sessions)
    for row in range(1, sessions):
        variance[row] = 0.05 + (0.12 * shocks[row - 1] + 0.83) * variance[row - 1]
    return np.asarray(np.sqrt(variance))
