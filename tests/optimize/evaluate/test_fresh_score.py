import numpy as np
import pytest

from optimize.evaluate.fresh_score import fresh_interval
from optimize.evaluate.median import lower_median

YEAR = 252.0


def interval(returns: np.ndarray, feasible: list[bool] | None = None) -> tuple[float | None, float | None]:
    flags = np.ones(len(returns), np.bool_) if feasible is None else np.array(feasible)
    return fresh_interval(returns, flags, sessions_per_year=YEAR, risk_free=0.0, seed=1)


def test_the_lower_median_counts_a_missing_score_below_every_number() -> None:
    assert lower_median([3.0, 1.0, 2.0]) == 2.0
    assert lower_median([3.0, 1.0, 2.0, 4.0]) == 2.0
    assert lower_median([None, None, 5.0]) is None
    assert lower_median([None, 5.0, 6.0]) == 5.0
    assert lower_median([]) is None


def test_one_seed_has_the_error_of_its_sessions() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.01, (1, 500))
    low, high = interval(returns)
    assert low is not None
    assert high is not None
    width = 2 * 1.645 * np.sqrt(YEAR / 500)  # of a normal series: Lo (2002)
    assert high - low == pytest.approx(width, rel=0.15)


def test_seeds_on_the_same_sessions_do_not_shrink_the_error_of_the_market() -> None:
    rng = np.random.default_rng(0)
    market = rng.normal(0.001, 0.01, 500)
    alike = market + rng.normal(0, 1e-5, (8, 500))
    low, high = interval(alike)
    one = interval(market[None])
    assert (low, high) == pytest.approx(one, rel=0.05)


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 2000)
    apart = noise + np.array([[-0.003], [0.0], [0.003]])
    low, high = interval(apart)
    alike = interval(np.repeat(noise[None], 3, axis=0))
    assert None not in (low, high, *alike)
    assert high - low > 1.5 * (alike[1] - alike[0])  # type: ignore[operator]


def test_seeds_without_a_feasible_score_pull_the_lower_bound_down() -> None:
    returns = np.random.default_rng(0).normal(0.001, 0.01, (3, 400))
    low, high = interval(returns, [True, True, False])
    assert low is None
    assert high is not None
    assert interval(returns, [False, False, False]) == (None, None)
    assert interval(np.zeros((2, 50))) == (None, None)
