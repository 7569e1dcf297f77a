"""How finely a comparison of alternatives resolves, and how many sessions or trials it would take to do so.

Sharpe ratios here are those of one session; a year has as many times the square root of its sessions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from envs.types import FloatArray

POWER = 0.8  # of the comparison, at the lead it is said to resolve
INTERVAL = 0.90  # confidence of the interval of the seeds' deviation


@dataclass(frozen=True)
class SeedEffect:
    """Standard deviation over seeds of the Sharpe ratio of one session, beyond sampling error of sessions."""

    estimate: float  # 0 where the sessions explain all that differs
    low: float  # of the interval; 0: the effect cannot be told from the sessions
    high: float  # inf without two trials of one alternative
    cautious: float  # widened for few trials, as Student's t is wider than the normal; the test uses it


@dataclass(frozen=True)
class Precision:
    """Variance of the difference between two alternatives, split by its two sources."""

    of_sessions: float  # times 1 / sessions; autocorrelation of the differences included
    of_seeds: float  # times 1 / trials
    sessions: int
    trials: float  # of each alternative, mean
    quantile: float  # standard errors that a lead needs, among all pairs and at the power above
    lead: float  # of the best over the mean of the others, as seen; it flatters the best

    @property
    def resolved(self) -> float:
        """Return the least lead that shows in POWER of all cases."""
        return self.quantile * math.sqrt(self._variance(self.sessions, self.trials))

    def sessions_for(self, lead: float) -> float | None:
        """Return how many sessions resolve a lead with the trials there are, None where no number does."""
        left = (lead / self.quantile) ** 2 - self.of_seeds / self.trials
        return self.of_sessions / left if left > 0 else None

    def trials_for(self, lead: float) -> float | None:
        """Return how many trials resolve a lead with the sessions there are, None where no number does."""
        left = (lead / self.quantile) ** 2 - self.of_sessions / self.sessions
        return self.of_seeds / left if left > 0 else None

    def both_for(self, lead: float) -> tuple[float, float]:
        """Return how many sessions and trials resolve a lead where each source has half of the variance."""
        half = (lead / self.quantile) ** 2 / 2
        return self.of_sessions / half, self.of_seeds / half

    def _variance(self, sessions: float, trials: float) -> float:
        return self.of_sessions / sessions + self.of_seeds / trials


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
    widened = (critical(len(scaled), size, freedom) / critical(len(scaled), size)) ** 2

    def beyond(variance: float) -> float:
        return math.sqrt(max(0.0, variance - explained / freedom))

    low, high = (beyond(between / float(chi2.ppf(1 - q, freedom))) for q in (tail, 1 - tail))
    return SeedEffect(beyond(between / freedom), low, high, beyond(widened * between / freedom))


def critical(count: int, size: float, freedom: int | None = None) -> float:
    """Return the standard errors that the largest difference of any pair exceeds by luck with chance `size`.

    By Bonferroni's bound over the pairs; `freedom` of an estimated variance, None where it is known.
    """
    from scipy.stats import t

    pairs = count * (count - 1) / 2
    quantile = 1 - size / (2 * max(pairs, 1))
    return NormalDist().inv_cdf(quantile) if freedom is None else float(t.ppf(quantile, freedom))


def precision(
    scaled: Sequence[FloatArray], losses: FloatArray, seeds: SeedEffect, block: int, size: float
) -> Precision:
    """Return the precision of a comparison of losses (sessions, alternatives), in the long run of blocks."""
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
        quantile=critical(count, size) + NormalDist().inv_cdf(POWER),
        lead=float(best - np.mean(others)),
    )


def expected_precision(
    *, count: int, sessions: int, trials: int, per_year: float, size: float, seeds: float = 1.0
) -> Precision:
    """Return the precision to expect before anything ran: half of the variance is common to all.

    `seeds` is the deviation over seeds of an annual Sharpe ratio.
    """
    quantile = critical(count, size) + NormalDist().inv_cdf(POWER)
    return Precision(1.0, 2 * seeds**2 / per_year, sessions, trials, quantile, 0.0)
