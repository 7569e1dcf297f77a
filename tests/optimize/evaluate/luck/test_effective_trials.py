"""The effective rank counts independent trials of any number and scale, with missing sessions too."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.luck import effective_rank, effective_trials


def equicorrelated(trials: int, correlation: float, sessions: int = 1000) -> FloatArray:
    rng = np.random.default_rng(5)
    common = rng.standard_normal((sessions, 1))
    own = rng.standard_normal((sessions, trials))
    return np.asarray(0.01 * (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own))


def test_golden_effective_ranks() -> None:
    assert effective_rank(np.eye(3)) == pytest.approx(3.0, abs=1e-12)
    assert effective_rank(np.array([[1, 0.1], [0.1, 1]])) == pytest.approx(1.9900083082, abs=1e-10)


def test_two_hundred_correlated_trials_count_as_the_measured_fourteen_or_so() -> None:
    matrix = np.full((200, 200), 0.6) + 0.4 * np.eye(200)
    assert effective_rank(matrix) == pytest.approx(16.1017460922, abs=1e-9)
    assert 13 < effective_trials(equicorrelated(200, 0.6)) < 16


def test_returns_give_the_rank_of_their_correlations_on_either_side() -> None:
    for returns in (equicorrelated(20, 0.3), equicorrelated(60, 0.3, sessions=40)):
        expected = effective_rank(np.asarray(np.corrcoef(returns, rowvar=False)))
        assert effective_trials(returns) == pytest.approx(expected, rel=1e-9)


def test_scale_order_constants_and_copies_of_all_do_not_matter() -> None:
    returns = equicorrelated(10, 0.4)
    expected = effective_trials(returns)
    changed = np.column_stack((np.zeros(1000), returns[:, ::-1] * np.arange(1, 11), np.full(1000, 0.01)))
    assert effective_trials(changed) == pytest.approx(expected, rel=1e-9)
    assert effective_trials(np.hstack((returns, returns))) == pytest.approx(expected, rel=1e-9)


def test_trials_that_share_no_session_are_independent() -> None:
    returns = np.repeat(equicorrelated(1, 0.0), 2, axis=1)
    assert effective_trials(returns) == pytest.approx(1.0, abs=1e-6)
    returns[:500, 0] = returns[500:, 1] = np.nan
    assert effective_trials(returns) == pytest.approx(2.0, abs=1e-9)


def test_no_trial_with_variance_has_no_effective_number() -> None:
    assert np.isnan(effective_trials(np.zeros((50, 3))))
    assert np.isnan(effective_trials(np.empty((50, 0))))
    assert np.isnan(effective_trials(np.full((50, 2), np.nan)))


def test_bad_matrices_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"a square matrix"):
        effective_rank(np.ones((2, 3)))
    with pytest.raises(BadInputError, match=r"finite"):
        effective_rank(np.array([[1, np.nan], [np.nan, 1]]))
    with pytest.raises(BadInputError, match=r"infinite values=1"):
        effective_trials(np.array([[np.inf, 1.0], [1.0, 2.0]]))
