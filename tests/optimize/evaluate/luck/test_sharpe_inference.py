"""Inference on one Sharpe ratio gives the published numbers; moments that are impossible are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.luck import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    maximum_normal_moments,
    minimum_track_record_length,
    minimum_track_record_length_under_null,
    probabilistic_sharpe_ratio,
    probabilistic_sharpe_ratio_under_null,
    sharpe_moments,
    sharpe_standard_deviation,
    sharpe_standard_error,
    time_aggregation_factor,
)

NORMAL: dict[str, Any] = {"skewness": 0.0, "kurtosis": 3.0}
SKEWED: dict[str, Any] = {"skewness": -2.448, "kurtosis": 10.164}


def exactly(value: float) -> Any:
    return pytest.approx(value, abs=6e-11, rel=1e-10)


def test_probabilistic_sharpe_ratio_of_the_paper() -> None:
    monthly: dict[str, Any] = {"sharpe": 0.458, "benchmark": 0.0, "n_observations": 24}
    assert probabilistic_sharpe_ratio(**monthly, **NORMAL) == exactly(0.9816749191)
    assert probabilistic_sharpe_ratio(**monthly, **SKEWED) == exactly(0.9133610839)


@pytest.mark.parametrize(
    ("n_trials", "expected"),
    [(5, 1.192594), (10, 1.574598), (45, 2.235640), (1000, 3.255122)],
)
def test_asymptotic_expected_maximum(n_trials: int, expected: float) -> None:
    found = expected_maximum_sharpe(n_trials=n_trials, sharpe_variance=1.0)
    assert found == pytest.approx(expected, abs=5e-7)


def test_asymptotic_expected_maximum_of_a_hundred_scales_with_the_deviation() -> None:
    assert expected_maximum_sharpe(n_trials=100, sharpe_variance=4.0) == exactly(2 * 2.5306028932016846)


def test_below_five_trials_the_expected_maximum_is_the_exact_integral() -> None:
    exact = {1: 0.0, 2: 1 / np.sqrt(np.pi), 3: 1.5 / np.sqrt(np.pi), 4: 1.0293753730}
    for n_trials, expected in exact.items():
        assert expected_maximum_sharpe(n_trials=n_trials, sharpe_variance=1.0) == exactly(expected)


@pytest.mark.parametrize(
    ("n_trials", "correlation", "mean", "deviation", "tolerance"),
    [
        (5, 0.0, 1.162964, 0.668980, 5e-7),
        (50, 0.0, 2.249074, 0.464449, 5e-7),
        (1000, 0.0, 3.241436, 0.351362, 5e-7),
        (10, 0.5, 1.0881, np.sqrt(0.6722), 5e-5),  # rho + (1 - rho) * variance is 0.6722
    ],
)
def test_exact_moments_of_the_maximum(
    n_trials: int, correlation: float, mean: float, deviation: float, tolerance: float
) -> None:
    found = maximum_normal_moments(n_trials=n_trials, correlation=correlation)
    assert found == pytest.approx((mean, deviation), abs=tolerance)


def test_deflated_sharpe_ratio_of_the_paper() -> None:
    chance = expected_maximum_sharpe(n_trials=100, sharpe_variance=0.5 / 250)
    assert chance == exactly(0.1131720019)
    found = deflated_sharpe_ratio(
        sharpe=2.5 / np.sqrt(250),
        n_observations=1250,
        skewness=-3.0,
        kurtosis=10.0,
        n_trials=100,
        sharpe_variance=0.5 / 250,
    )
    assert found == exactly(0.9003968344)


@pytest.mark.parametrize(("n_trials", "expected"), [(10, 0.0064), (1000, 0.00048)])
def test_a_decision_by_the_deflated_ratio_fires_on_noise_in_far_less_than_five_percent(
    n_trials: int, expected: float
) -> None:
    observations = 10**8  # so many that the ratios are normal, with the variance 1 / observations
    chance = expected_maximum_sharpe(n_trials=n_trials, sharpe_variance=1 / observations)
    threshold = chance + norm.ppf(0.95) / np.sqrt(observations)
    deflated = deflated_sharpe_ratio(
        sharpe=threshold,
        n_observations=observations,
        n_trials=n_trials,
        sharpe_variance=1 / observations,
        **NORMAL,
    )
    assert deflated == pytest.approx(0.95, abs=1e-6)
    fires = 1 - norm.cdf(threshold * np.sqrt(observations)) ** n_trials
    assert fires == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("periods", "observations", "years"),
    [(252, 688.2080, 2.7310), (52, 147.0993, 2.828834), (12, 38.8776, 3.239801)],
)
def test_minimum_track_record_length_of_the_paper(periods: int, observations: float, years: float) -> None:
    found = minimum_track_record_length(
        sharpe=2 / np.sqrt(periods), benchmark=1 / np.sqrt(periods), confidence=0.95, **NORMAL
    )
    assert found == pytest.approx(observations, abs=5e-5)
    assert found / periods == pytest.approx(years, abs=5e-5)


def test_no_track_record_proves_a_sharpe_ratio_that_is_not_above_the_benchmark() -> None:
    for sharpe in (0.1, 0.05):
        arguments: dict[str, float] = {"sharpe": sharpe, "benchmark": 0.1, "confidence": 0.95, **NORMAL}
        assert minimum_track_record_length(**arguments) == np.inf
        assert minimum_track_record_length_under_null(**arguments) == np.inf


def test_the_forms_of_2025() -> None:
    published: dict[str, Any] = {"sharpe": 0.036 / 0.079, **SKEWED}
    assert sharpe_standard_deviation(n_observations=24, **published) == exactly(0.3285885940)
    with_rho = sharpe_standard_deviation(n_observations=24, autocorrelation=0.2, **published)
    assert with_rho == exactly(0.3794899975)
    found = probabilistic_sharpe_ratio_under_null(benchmark=0.0, n_observations=24, **published)
    assert found == exactly(0.9872072613)
    length = minimum_track_record_length_under_null(benchmark=0.0, confidence=0.95, **published)
    assert length == exactly(13.0287783156)


def test_under_the_null_the_variance_is_that_at_the_benchmark() -> None:
    arguments: dict[str, Any] = {"benchmark": 0.1, "autocorrelation": 0.2, **SKEWED}
    deviation = sharpe_standard_deviation(sharpe=0.1, n_observations=50, autocorrelation=0.2, **SKEWED)
    found = probabilistic_sharpe_ratio_under_null(sharpe=0.4, n_observations=50, **arguments)
    assert found == exactly(float(norm.cdf(0.3 / deviation)))
    length = minimum_track_record_length_under_null(sharpe=0.4, confidence=0.9, **arguments)
    assert length == exactly(50 * (deviation * float(norm.ppf(0.9)) / 0.3) ** 2)


def test_standard_error_and_time_aggregation_of_lo() -> None:
    assert sharpe_standard_error(sharpe=0.5, n_observations=60) == pytest.approx(0.136931, abs=5e-7)
    found = time_aggregation_factor(periods=12, autocorrelations=0.1)
    assert found == pytest.approx(3.160111, abs=5e-7)
    assert time_aggregation_factor(periods=12, autocorrelations=-0.1) == pytest.approx(3.797873, abs=5e-7)
    listed = [0.1**lag for lag in range(1, 12)]
    assert time_aggregation_factor(periods=12, autocorrelations=listed) == exactly(found)
    assert time_aggregation_factor(periods=12, autocorrelations=0.0) == exactly(np.sqrt(12))


@pytest.mark.market_data
def test_probabilistic_sharpe_ratio_of_googl(market_data: Path) -> None:
    bars = pd.read_parquet(market_data / "googl_1d_gymanytrading_2009_2018.parquet")
    close = np.asarray(bars["close"], dtype=np.float64)
    moments = sharpe_moments(close[1:] / close[:-1] - 1.0)
    found = probabilistic_sharpe_ratio(
        sharpe=moments.sharpe,
        benchmark=0.0,
        n_observations=moments.n_observations,
        skewness=moments.skewness,
        kurtosis=moments.kurtosis,
    )
    assert found == exactly(0.9985819591)


def test_moments_by_hand() -> None:
    moments = sharpe_moments(np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 2.0, 0.0]) / 100)
    values = np.array([0.8, -1.2, 0.8, -1.2, 0.8, -1.2, 0.8, -1.2, 1.8, -0.2])
    variance = np.mean(values**2)
    assert moments.sharpe == exactly(0.2 / np.sqrt(variance * 10 / 9))
    assert moments.skewness == exactly(np.mean(values**3) / variance**1.5)
    assert moments.kurtosis == exactly(np.mean(values**4) / variance**2)
    assert moments.autocorrelation == exactly(np.sum(values[1:] * values[:-1]) / (10 * variance))


@pytest.mark.parametrize("returns", [np.zeros(30), np.full(30, 0.01), np.array([]), np.array([0.1])])
def test_constant_and_empty_series_have_no_ratio_and_no_probability(returns: FloatArray) -> None:
    moments = sharpe_moments(returns)
    shape = {"skewness": moments.skewness, "kurtosis": moments.kurtosis}
    assert np.isnan([moments.sharpe, moments.skewness, moments.kurtosis, moments.autocorrelation]).all()
    sharpe = moments.sharpe
    observed: dict[str, Any] = {"sharpe": sharpe, "n_observations": 30, **shape}
    assert np.isnan(probabilistic_sharpe_ratio(benchmark=0.0, **observed))
    assert np.isnan(probabilistic_sharpe_ratio_under_null(benchmark=0.0, **observed))
    assert np.isnan(deflated_sharpe_ratio(n_trials=10, sharpe_variance=0.01, **observed))
    length = minimum_track_record_length(sharpe=sharpe, benchmark=0.0, confidence=0.95, **shape)
    assert np.isnan(length)
    assert np.isnan(expected_maximum_sharpe(n_trials=10, sharpe_variance=float("nan")))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kurtosis": 0.0}, r"kurtosis=0\.0 is not allowed.*not the excess"),
        ({"n_observations": 1}, "n_observations=1 is not allowed"),
        ({"n_trials": 0}, "n_trials=0 is not allowed"),
        ({"sharpe_variance": -0.1}, r"sharpe_variance=-0\.1 is not allowed"),
    ],
)
def test_bad_arguments_are_refused_by_name(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "sharpe": 0.1,
        "n_observations": 100,
        "n_trials": 10,
        "sharpe_variance": 0.01,
    }
    with pytest.raises(BadInputError, match=message):
        deflated_sharpe_ratio(**{**arguments, **NORMAL, **changed})


def test_a_confidence_and_an_autocorrelation_outside_their_range_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"confidence=95 .* between 0\.5 and 1"):
        minimum_track_record_length(sharpe=0.2, benchmark=0.0, confidence=95, **NORMAL)
    with pytest.raises(BadInputError, match=r"autocorrelation=1\.0"):
        sharpe_standard_deviation(sharpe=0.2, n_observations=10, autocorrelation=1.0, **NORMAL)
    with pytest.raises(BadInputError, match=r"autocorrelations=2 .* one for each lag: 11 numbers"):
        time_aggregation_factor(periods=12, autocorrelations=[0.1, 0.2])
    with pytest.raises(BadInputError, match=r"returns with not finite values=1"):
        sharpe_moments(np.array([0.1, np.nan]))
