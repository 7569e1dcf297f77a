"""Luck of a family of tries: the test of its best column, corrected for tries whose returns are gone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.luck.maximum import MaximumTest, bootstrap_maximum
from optimize.evaluate.luck.sharpe_inference import (
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    sharpe_moments,
)
from optimize.evaluate.metrics import sharpe_ratio

CONFIDENCE = 0.95
N_BOOTSTRAPS = 1000


@dataclass(frozen=True, eq=False)
class FamilyTest:
    """Test of each column of a family against one benchmark."""

    test: MaximumTest
    p_values: FloatArray  # (N,) step-down, for all tries; NaN without a statistic


@dataclass(frozen=True)
class SharpeLuck:
    """Probabilities of one Sharpe ratio; None where it is not defined."""

    sharpe: float | None  # per observation
    probabilistic: float | None  # that the true ratio exceeds 0
    deflated: float | None  # that it exceeds the chance level


def assess_family(returns: FloatArray, *, n_tries: int, n_held: int) -> FamilyTest:
    """Test the columns of excess returns (T, N), which stand for `n_held` of `n_tries` tries.

    Each try whose returns are gone counts as one more independent try, however alike the held ones are.
    """
    require(n_held >= 1, "n_held", n_held, "at least 1")
    test = bootstrap_maximum(
        returns=returns,
        confidence=CONFIDENCE,
        n_bootstraps=N_BOOTSTRAPS,
        n_unknown=max(n_tries - n_held, 0),
    )
    return FamilyTest(test, test.step_down)


def chance_level(columns: Sequence[FloatArray], *, n_tries: int, n_observations: int) -> float:
    """Return the Sharpe ratio per observation that the best of all tries is expected to show by chance.

    The variance of the ratios is the larger of that of the columns and that of one ratio without skill.
    """
    ratios = np.array([sharpe_ratio(column, 1.0) for column in columns])
    defined = ratios[np.isfinite(ratios)]
    spread = float(np.var(defined, ddof=1)) if len(defined) > 1 else 0.0
    return expected_maximum_sharpe(n_trials=max(n_tries, 1), sharpe_variance=max(spread, 1 / n_observations))


def sharpe_luck(returns: FloatArray, chance: float) -> SharpeLuck:
    """Return the probabilistic and the deflated Sharpe ratio of excess returns (T,).

    `chance` is the chance level per observation.
    """
    found = sharpe_moments(returns)
    if not math.isfinite(found.sharpe):
        return SharpeLuck(None, None, None)

    def above(benchmark: float) -> float | None:
        value = probabilistic_sharpe_ratio(
            sharpe=found.sharpe,
            benchmark=benchmark,
            n_observations=found.n_observations,
            skewness=found.skewness,
            kurtosis=found.kurtosis,
        )
        return value if math.isfinite(value) else None

    return SharpeLuck(found.sharpe, above(0.0), above(chance))
