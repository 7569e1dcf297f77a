"""A family of tries: tries whose returns are gone count as independent ones; the chance level has a floor."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from optimize.errors import BadInputError
from optimize.evaluate.luck.family import assess_family, chance_level, sharpe_luck
from optimize.evaluate.luck.maximum import bootstrap_maximum
from optimize.evaluate.luck.sharpe_inference import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    sharpe_moments,
)

RETURNS = np.random.default_rng(3).standard_normal((250, 20)) * 0.01
STRONG = RETURNS + np.where(np.arange(20) == 4, 0.0025, 0.0)


def test_with_all_returns_held_it_is_the_plain_test() -> None:
    found, plain = assess_family(STRONG, n_tries=20, n_held=20), bootstrap_maximum(returns=STRONG)
    assert np.array_equal(found.p_values, plain.step_down)
    assert (found.test.critical_value, found.test.best) == (plain.critical_value, 4)
    assert np.array_equal(assess_family(STRONG, n_tries=5, n_held=20).p_values, plain.step_down)


def test_p_values_and_the_critical_value_agree_whatever_is_gone() -> None:
    for n_tries in (20, 40, 400):
        found = assess_family(STRONG, n_tries=n_tries, n_held=20)
        assert (found.p_values[4] <= 0.05) == found.test.significant
        assert found.test.confidence == 0.95
        assert np.isfinite(found.test.critical_value)
    few, many = (assess_family(STRONG, n_tries=n, n_held=20).p_values for n in (20, 400))
    assert (many >= few - 0.01).all()
    gone = norm.cdf(found.test.statistics[4]) ** 380  # that no independent try without returns does as well
    assert many[4] == pytest.approx(1 - (1 - few[4]) * gone, abs=0.05)


def test_repeats_of_one_set_do_not_dilute_the_tries_that_are_gone() -> None:
    generator = np.random.default_rng(0)
    fired = 0
    for _ in range(20):
        deleted = generator.standard_normal((250, 100)) * 0.01
        best = deleted[:, [np.argmax(deleted.mean(axis=0) / deleted.std(axis=0))]]
        held = assess_family(best, n_tries=200, n_held=100)  # 100 runs of the best set of a deleted study
        fired += bool(held.p_values[0] <= 0.05)
    assert fired <= 4


def test_noise_is_found_no_more_often_than_it_should() -> None:
    generator = np.random.default_rng(0)
    fired = 0
    for _ in range(100):
        returns = generator.standard_normal((100, 5)) * 0.01
        fired += bool(np.nanmin(assess_family(returns, n_tries=10, n_held=5).p_values) <= 0.05)
    assert fired <= 10


def test_the_chance_level_has_the_variance_of_one_ratio_as_its_floor() -> None:
    columns = list(RETURNS.T)
    floor = expected_maximum_sharpe(n_trials=50, sharpe_variance=1 / 250)
    alike = [columns[0] + 1e-6 * each for each in columns]
    assert chance_level(alike, n_tries=50, n_observations=250) == floor
    assert chance_level([], n_tries=50, n_observations=250) == floor
    spread = [each + 0.01 * place for place, each in enumerate(columns)]
    assert chance_level(spread, n_tries=50, n_observations=250) > 10 * floor
    assert chance_level([], n_tries=500, n_observations=250) > floor


def test_the_probabilities_are_those_of_the_papers() -> None:
    found, series = sharpe_moments(STRONG[:, 4]), STRONG[:, 4]
    moments: dict[str, Any] = {
        "sharpe": found.sharpe,
        "n_observations": 250,
        "skewness": found.skewness,
        "kurtosis": found.kurtosis,
    }
    luck = sharpe_luck(series, expected_maximum_sharpe(n_trials=20, sharpe_variance=1 / 250))
    assert luck.probabilistic == probabilistic_sharpe_ratio(benchmark=0.0, **moments)
    assert luck.deflated == deflated_sharpe_ratio(n_trials=20, sharpe_variance=1 / 250, **moments)
    constant = sharpe_luck(np.zeros(250), 0.1)
    assert (constant.sharpe, constant.probabilistic, constant.deflated) == (None, None, None)


def test_no_try_is_refused() -> None:
    with pytest.raises(BadInputError, match="n_held"):
        assess_family(RETURNS, n_tries=5, n_held=0)
