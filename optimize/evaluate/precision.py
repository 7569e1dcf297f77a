"""Precision of a comparison: the lead that it can detect between alternatives. Free of numpy, to load fast.

Sharpe ratios here are those of one session; a year has as many times the square root of its sessions.
"""

import math
from dataclasses import dataclass

POWER = 0.8  # of the comparison, at the lead it resolves


@dataclass(frozen=True)
class Precision:
    """Variance of the difference between two alternatives, split by its two sources."""

    of_sessions: float  # times 1 / sessions; autocorrelation of the differences included
    of_seeds: float  # times 1 / trials
    sessions: int
    trials: float  # of each alternative, mean
    quantile: float  # standard errors that a lead needs, among all pairs and at the power above
    lead: float  # observed, of the best over the mean of the others; biased upwards

    @property
    def resolved(self) -> float:
        """Return the smallest lead that is detected with probability POWER."""
        return self.quantile * math.sqrt(self._variance(self.sessions, self.trials))

    def sessions_for(self, lead: float) -> float | None:
        """Return the number of sessions that resolves a lead with these trials, or None if none does."""
        left = (lead / self.quantile) ** 2 - self.of_seeds / self.trials
        return self.of_sessions / left if left > 0 else None

    def trials_for(self, lead: float) -> float | None:
        """Return the number of trials that resolves a lead with these sessions, or None if none does."""
        left = (lead / self.quantile) ** 2 - self.of_sessions / self.sessions
        return self.of_seeds / left if left > 0 else None

    def both_for(self, lead: float) -> tuple[float, float]:
        """Return the sessions and trials that resolve a lead if each contributes half of the variance."""
        half = (lead / self.quantile) ** 2 / 2
        return self.of_sessions / half, self.of_seeds / half

    def _variance(self, sessions: float, trials: float) -> float:
        return self.of_sessions / sessions + self.of_seeds / trials
