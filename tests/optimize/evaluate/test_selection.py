"""The selection walk-forward: earlier windows choose, the next one pays; no later bar is read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.selection import Selection, SelectionRule, selection_walk_forward

YEAR = 252.0
SESSIONS, WINDOWS = 60, 4
WINDOW: IntArray = np.repeat(np.arange(WINDOWS), SESSIONS)
RULE = SelectionRule(kind="joined", risk_free=0.0, k=1.0, min_trades=None, min_volatility=0.001)


def noise(trials: int, seed: int = 0, repeats: int = 1) -> FloatArray:
    return 0.01 * np.random.default_rng(seed).standard_normal((trials, repeats, WINDOWS * SESSIONS))


def select(
    returns: FloatArray,
    sets: Sequence[str] | None = None,
    rule: SelectionRule = RULE,
    trades: FloatArray | None = None,
    gated: NDArray[np.bool_] | None = None,
) -> Selection | None:
    shape = (*returns.shape[:2], WINDOWS)
    return selection_walk_forward(
        returns=returns,
        window=WINDOW,
        trades=np.full(shape, 10.0) if trades is None else trades,
        parameter_set=sets or [str(number) for number in range(len(returns))],
        rule=rule,
        sessions_per_year=YEAR,
        gated=gated,
    )


def found(*arguments: Any, **options: Any) -> Selection:
    selection = select(*arguments, **options)
    assert selection is not None
    return selection


def test_the_best_by_the_windows_before_earns_its_next_window() -> None:
    returns = noise(3)
    moves = {1: (0.02, -0.1, 0.0), 2: (0.0, 0.05, -0.2), 0: (0.0, 0.0, 0.1)}  # of the mean, by window
    for trial, means in moves.items():
        for window, mean in enumerate(means):
            returns[trial, 0, window == WINDOW] += mean
    selection = found(returns)
    assert selection.chosen == (1, 2, 0)
    parts = [returns[trial, 0, window + 1 == WINDOW] for window, trial in enumerate((1, 2, 0))]
    earned = np.concatenate(parts)
    assert selection.sharpe == sharpe_ratio(earned, YEAR)
    assert selection.sessions == 3 * SESSIONS


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_no_choice_reads_its_own_window_or_a_later_one(cut: int) -> None:
    returns = noise(20, seed=5)
    later = returns.copy()
    later[:, :, cut <= WINDOW] = noise(20, seed=6)[:, :, cut <= WINDOW]
    assert found(later).chosen[:cut] == found(returns).chosen[:cut]
    earlier = returns.copy()
    earlier[:, :, cut > WINDOW] = noise(20, seed=7)[:, :, cut > WINDOW]
    assert found(earlier).chosen != found(returns).chosen


def test_on_noise_it_is_centred_at_zero_while_the_best_score_is_not() -> None:
    earned, best, drawn = [], [], []
    for seed in range(200):
        returns = noise(30, seed=seed)
        selection = found(returns)
        assert selection.sharpe is not None
        assert selection.random_choice is not None
        earned.append(selection.sharpe)
        drawn.append(selection.random_choice)
        best.append(max(sharpe_ratio(row, YEAR) for row in returns[:, 0]))
    error = np.std(earned, ddof=1) / np.sqrt(len(earned))
    assert abs(np.mean(earned)) < 3 * error
    assert abs(np.mean(drawn)) < 3 * error
    assert np.mean(best) > 1.5


def test_a_trial_with_an_edge_is_found() -> None:
    returns = noise(30, seed=3)
    returns[17] += 0.003
    assert found(returns).chosen == (17, 17, 17)


def test_a_trial_that_was_stopped_later_could_have_been_chosen() -> None:
    returns = noise(5, seed=1)
    returns[4, 0, WINDOW < 2] += 0.05
    returns[4, 0, WINDOW >= 2] = np.nan  # stopped after its second window
    selection = found(returns)
    assert selection.chosen[0] == 4
    assert 4 not in selection.chosen[1:]


def test_a_parameter_set_counts_with_its_run_of_the_lower_median() -> None:
    returns = noise(4, seed=2)
    returns[0] += 0.02  # a lucky run of a set whose other run is poor
    returns[1] -= 0.02
    returns[2] += 0.005
    assert found(returns, ["a", "a", "b", "c"]).chosen == (2, 2, 2)
    stopped = returns.copy()
    stopped[1, 0, WINDOW >= 1] = np.nan
    assert 0 not in found(stopped, ["a", "a", "b", "c"]).chosen  # a run that was stopped is below every score


@pytest.mark.parametrize("kind", ["joined", "mean_window", "median_window", "lower_bound"])
def test_every_kind_of_score_can_choose(kind: str) -> None:
    returns = noise(10, seed=4, repeats=3)
    returns[6] += 0.004
    rule = SelectionRule(kind=kind, risk_free=0.0, k=1.0, min_trades=None, min_volatility=0.001)
    assert set(found(returns, rule=rule).chosen) == {6}


def test_what_the_study_would_not_have_scored_is_never_chosen() -> None:
    returns = noise(3, seed=8)
    returns[0] += 0.03
    trades = np.full((3, 1, WINDOWS), 10.0)
    trades[0, 0, 0] = 0.0  # it held nothing in its first window
    assert found(returns, trades=trades).chosen[0] != 0
    still = returns.copy()
    still[0] *= 1e-6  # no volatility
    assert 0 not in found(still).chosen
    ruined = returns.copy()
    ruined[0, 0, 3] = -1.0
    assert 0 not in found(ruined).chosen


def test_there_is_no_choice_from_one_window_or_without_a_scored_trial() -> None:
    assert select(np.zeros((2, 1, WINDOWS * SESSIONS))) is None
    one = selection_walk_forward(
        returns=noise(2)[:, :, :SESSIONS],
        window=WINDOW[:SESSIONS],
        trades=np.ones((2, 1, 1)),
        parameter_set=["0", "1"],
        rule=RULE,
        sessions_per_year=YEAR,
    )
    assert one is None


def test_a_trial_that_a_gate_blocks_is_not_chosen_after_that_window_and_was_before() -> None:
    returns = noise(3)
    returns[1, 0] += 0.01
    gated = np.zeros((3, WINDOWS), np.bool_)
    assert found(returns).chosen == (1, 1, 1)
    gated[1, 1:] = True  # a loss in its second window: unknown when the trial of that window was chosen
    chosen = found(returns, gated=gated).chosen
    assert chosen[0] == 1
    assert 1 not in chosen[1:]
    assert select(returns, gated=np.ones((3, WINDOWS), np.bool_)) is None


def test_a_constant_return_has_no_ratio_however_its_sums_round() -> None:
    returns = noise(2) + 0.001
    returns[0] = 0.0007  # its standard deviation over a window rounds to 1e-19, not to 0
    rule = SelectionRule(kind="joined", risk_free=0.0, k=1.0, min_trades=None, min_volatility=0.0)
    assert found(returns, rule=rule).chosen == (1, 1, 1)
