"""Paired tests and intervals of Sharpe ratios: golden numbers, coverage, and series without a ratio."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.luck import (
    jobson_korkie_memmel_test,
    ledoit_wolf_test,
    sharpe_interval,
    sharpe_moments,
    sharpe_standard_deviation,
)
from optimize.evaluate.luck.resampling import (
    covariance_weights,
    optimal_block,
    session_counts,
    stationary_draws,
    variance_ratio,
)
from optimize.evaluate.metrics import sharpe_ratio

TIME = np.arange(1, 241)
FIRST = ((7 * TIME % 11) - 4) / 1000 + 0.001 * np.sin(TIME)
SECOND = ((5 * TIME % 13) - 5.7) / 1000 + 0.0015 * np.cos(TIME / 3)


def autoregressive(seed: int, *, rho: float, sessions: int) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal(sessions)
    series = noise.copy()
    for row in range(1, sessions):
        series[row] = rho * series[row - 1] + noise[row]
    return series


def test_golden_paired_tests() -> None:
    assert sharpe_ratio(FIRST, 1) == pytest.approx(0.3165699964, abs=1e-10)
    assert sharpe_ratio(SECOND, 1) == pytest.approx(0.0755477336, abs=1e-10)
    assert jobson_korkie_memmel_test(first=FIRST, second=SECOND).z == pytest.approx(2.5685237606, abs=1e-10)
    robust = ledoit_wolf_test(first=FIRST, second=SECOND, lag=5)
    assert robust.standard_error == pytest.approx(0.0590315768, abs=1e-10)
    assert robust.z == pytest.approx(robust.difference / robust.standard_error)
    assert 0 < robust.p_value < 0.001


def test_the_default_lag_follows_newey_and_west() -> None:
    assert ledoit_wolf_test(first=FIRST, second=SECOND) == ledoit_wolf_test(first=FIRST, second=SECOND, lag=4)


def test_exchanging_the_series_changes_the_sign_alone() -> None:
    for test in (ledoit_wolf_test, jobson_korkie_memmel_test):
        one, two = test(first=FIRST, second=SECOND), test(first=SECOND, second=3 * FIRST)
        assert (two.z, two.p_value) == pytest.approx((-one.z, one.p_value), rel=1e-9)


@pytest.mark.parametrize("constant", [np.zeros(240), np.full(240, 0.01)])
def test_a_constant_series_and_a_series_against_itself_have_no_z(constant: FloatArray) -> None:
    for test in (ledoit_wolf_test, jobson_korkie_memmel_test):
        assert np.isnan(test(first=FIRST, second=constant).z)
        assert np.isnan(test(first=constant, second=FIRST).p_value)
        assert np.isnan(test(first=FIRST, second=FIRST).z)


def test_equal_ratios_are_told_apart_as_often_as_the_level_allows() -> None:
    rejected = 0
    for seed in range(400):
        pair = np.random.default_rng(seed).standard_t(5, size=(3, 300))
        found = ledoit_wolf_test(first=pair[0] + pair[2], second=pair[1] + pair[2])
        rejected += found.p_value <= 0.05
    assert 0.025 <= rejected / 400 <= 0.085


def test_paired_input_is_checked() -> None:
    with pytest.raises(BadInputError, match=r"second=239 .* as long as first: 240"):
        ledoit_wolf_test(first=FIRST, second=SECOND[1:])
    with pytest.raises(BadInputError, match=r"lag=240"):
        ledoit_wolf_test(first=FIRST, second=SECOND, lag=240)
    with pytest.raises(BadInputError, match=r"first=4 .* at least 5"):
        jobson_korkie_memmel_test(first=FIRST[:4], second=SECOND[:4])


def test_golden_block_length_equals_that_of_arch() -> None:
    series = autoregressive(12345, rho=0.5, sessions=1000)
    assert optimal_block([series]) == pytest.approx(10.033314761431143, rel=1e-12)
    assert optimal_block([series, series[:500]]) > 1  # of several lengths
    assert optimal_block([]) == 1.0


def test_draws_have_blocks_of_the_mean_length_and_every_session_equally_often() -> None:
    draws = stationary_draws(np.random.default_rng(0), n_bootstraps=2000, n_sessions=50, block_length=5.0)
    follows = np.mean(draws[:, 1:] == (draws[:, :-1] + 1) % 50)
    assert follows == pytest.approx(0.8 + 0.2 / 50, abs=0.01)
    counts = session_counts(draws)
    assert counts.sum(axis=1).tolist() == [50.0] * 2000
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)


def test_the_variance_ratio_is_that_of_the_bootstrap_means() -> None:
    series = autoregressive(3, rho=0.5, sessions=100)
    series -= series.mean()
    draws = stationary_draws(np.random.default_rng(0), n_bootstraps=40000, n_sessions=100, block_length=6.0)
    simulated = np.var(series[draws].mean(axis=1)) * 100 / np.var(series)
    exact = variance_ratio(series[:, None], covariance_weights(100, 6.0))[0]
    assert exact == pytest.approx(simulated, rel=0.03)
    assert variance_ratio(series[:, None], covariance_weights(100, 1.0))[0] == pytest.approx(1.0)


def coverage(*, runs: int, rho: float) -> float:
    truth = 0.1 * np.sqrt(1 - rho**2)
    covered = 0
    for seed in range(runs):
        found = sharpe_interval(
            returns=0.1 + autoregressive(seed, rho=rho, sessions=250), n_bootstraps=199, seed=seed
        )
        covered += found.lower <= truth <= found.upper
    return covered / runs


def test_the_interval_covers_the_true_ratio_about_as_often_as_stated() -> None:
    assert coverage(runs=100, rho=0.0) >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_the_interval_covers_the_true_ratio_in_91_to_98_percent(rho: float) -> None:
    assert 0.91 <= coverage(runs=400, rho=rho) <= 0.98


def test_an_interval_depends_on_its_seed_alone() -> None:
    found = sharpe_interval(returns=FIRST, seed=1, n_bootstraps=200)
    assert found == sharpe_interval(returns=FIRST, seed=1, n_bootstraps=200)
    assert found.lower != sharpe_interval(returns=FIRST, seed=2, n_bootstraps=200).lower
    assert found.lower < found.sharpe < found.upper
    narrower = sharpe_interval(returns=FIRST, seed=1, n_bootstraps=200, confidence=0.5)
    assert found.lower < narrower.lower < narrower.upper < found.upper


def test_each_replicate_of_independent_sessions_has_the_standard_error_of_its_own_moments() -> None:
    returns = np.random.default_rng(4).gamma(2.0, 0.01, 120) - 0.015  # skewed

    def ratio_and_error(values: FloatArray) -> tuple[float, float]:
        moments = sharpe_moments(values)
        sharpe = float(values.mean() / values.std())
        deviation = sharpe_standard_deviation(
            sharpe=sharpe, n_observations=120, skewness=moments.skewness, kurtosis=moments.kurtosis
        )
        return sharpe, deviation

    found = sharpe_interval(returns=returns, block_length=1.0, n_bootstraps=99, seed=3, confidence=0.9)
    centre, error = ratio_and_error(returns)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    draws = stationary_draws(np.random.default_rng(3), n_bootstraps=99, n_sessions=120, block_length=1.0)
    replicated = [ratio_and_error(returns[each]) for each in draws]
    low, high = np.quantile([(sharpe - centre) / own for sharpe, own in replicated], [0.05, 0.95])
    assert found.lower == pytest.approx(found.sharpe - high * error, rel=1e-9)
    assert found.upper == pytest.approx(found.sharpe - low * error, rel=1e-9)


@pytest.mark.parametrize("returns", [np.zeros(30), np.full(30, 0.01), np.array([]), FIRST[:19]])
def test_constant_and_short_series_have_no_interval(returns: FloatArray) -> None:
    found = sharpe_interval(returns=returns)
    assert np.isnan([found.lower, found.upper, found.standard_error]).all()


def test_a_series_with_one_trade_has_an_interval_without_warnings() -> None:
    returns = np.zeros(60)
    returns[30] = 0.01
    assert sharpe_interval(returns=returns, n_bootstraps=100).sharpe == pytest.approx(1 / np.sqrt(60))
