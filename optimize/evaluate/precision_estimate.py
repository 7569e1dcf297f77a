"""Estimate of the precision of a comparison of alternatives, and of the effect of seeds on it.

Sharpe ratios here are those of one session; a year has as many times the square root of its sessions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from envs.types import FloatArray
from optimize.evaluate.precision import POWER, Precision

INTERVAL = 0.90  # confidence of the interval of the seeds' deviation


@dataclass(frozen=True)
class SeedEffect:
    """Standard deviation over seeds of the Sharpe ratio of one session, beyond sampling error of sessions."""

    estimate: float  # 0 if the sessions explain all differences
    low: float  # of the interval; 0: the effect is not separable from the sessions
    high: float  # inf without two trials of one alternative
    cautious: float  # widened for few trials, as Student's t is wider than the normal; the test uses it


def seed_effect(scaled: Sequence[FloatArray], size: float) -> SeedEffect:
    """Estimate the effect of seeds from alternatives (trials, sessions) at a standard deviation of 1.

    The variance between the trials' means less the part their sessions explain, pooled over the alternatives:
    the random effect of a one-way layout by the method of moments, its interval from chi-squared.
    """
    from scipy.stats import chi2  # slow to import, and only two phases need it

    between, explained, freedom = 0.0, 0.0, 0
    for trials in scaled:
        count, sessions = trials.shape
        if count < 2:
            continue
        own = trials - trials.mean(axis=0)  # beyond the common part of its session
        between += (count - 1) * float(np.var(trials.mean(axis=1), ddof=1))
        explained += float(np.sum(np.var(own, axis=1, ddof=1))) / sessions
        freedom += count - 1
    if not freedom:
        return SeedEffect(0.0, 0.0, math.inf, 0.0)
    tail = (1 - INTERVAL) / 2
    widened = (critical_value(len(scaled), size, freedom) / critical_value(len(scaled), size)) ** 2

    def beyond(variance: float) -> float:
        return math.sqrt(max(0.0, variance - explained / freedom))

    low, high = (beyond(between / float(chi2.ppf(1 - q, freedom))) for q in (tail, 1 - tail))
    return SeedEffect(beyond(between / freedom), low, high, beyond(widened * between / freedom))


def critical_value(count: int, size: float, freedom: int | None = None) -> float:
    """Return the critical value, in standard errors, of the largest pairwise difference at test size `size`.

    By Bonferroni's bound over the pairs; `freedom` of an estimated variance, None where it is known.
    """
    from scipy.stats import t

    pairs = count * (count - 1) / 2
    quantile = 1 - size / (2 * max(pairs, 1))
    return NormalDist().inv_cdf(quantile) if freedom is None else float(t.ppf(quantile, freedom))


def precision(
    scaled: Sequence[FloatArray], losses: FloatArray, seeds: SeedEffect, block: int, size: float
) -> Precision:
    """Return the precision of a comparison of losses (sessions, alternatives), from sums over blocks."""
    sessions, count = losses.shape
    beyond = losses - losses.mean(axis=1, keepdims=True)
    whole = sessions // block * block
    sums = (beyond - beyond.mean(axis=0))[:whole].reshape(-1, block, count).sum(axis=1)
    variance = float(np.mean(np.square(sums))) / block * count / (count - 1)
    best, *others = sorted(-losses.mean(axis=0), reverse=True)
    return Precision(
        of_sessions=2 * variance,
        of_seeds=2 * seeds.cautious**2,
        sessions=sessions,
        trials=float(np.mean([len(each) for each in scaled])),
        quantile=critical_value(count, size) + NormalDist().inv_cdf(POWER),
        lead=float(best - np.mean(others)),
    )


def expected_precision(
    *, count: int, sessions: int, trials: int, per_year: float, size: float, seeds: float = 1.0
) -> Precision:
    """Return the precision expected before a study, with half of the variance common to all alternatives.

    `seeds` is the deviation over seeds of an annual Sharpe ratio.
    """
    quantile = critical_value(count, size) + NormalDist().inv_cdf(POWER)
    return Precision(1.0, 2 * seeds**2 / per_year, sessions, trials, quantile, 0.0)
