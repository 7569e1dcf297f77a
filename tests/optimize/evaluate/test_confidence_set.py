"""The set keeps the true best at its nominal level, with any seed effect, and drops worse alternatives."""

from typing import Any

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate import confidence_set
from optimize.evaluate.confidence_set import (
    MIN_SESSIONS,
    ConfidenceSet,
    block_length,
    model_confidence_set,
    scale_to_unit_variance,
)
from optimize.evaluate.precision_estimate import SeedEffect
from optimize.evaluate.score import ScoreSpec, score
from tests.tiers import mostly_slow

SEEDS = range(50)
YEAR = 365
LARGE: dict[str, Any] = {"sessions": 1000, "trials": 5, "count": 20, "spread": 1.0}


def phase(
    seed: int, *, sessions: int = 250, trials: int = 2, count: int = 4, spread: float = 0.0, edge: float = 0.0
) -> list[FloatArray]:
    """Return heavy-tailed session returns of alternatives on one market; the first is better by `edge`.

    `edge` and `spread`, the deviation of seeds, are annualised Sharpe ratios.
    """
    rng = np.random.default_rng([seed, sessions, count])
    market = rng.standard_t(5, size=sessions) * rng.normal(0, 0.7, (count, trials, 1))
    own = rng.standard_t(5, size=(count, trials, sessions)) + rng.standard_t(5, size=(count, 1, sessions))
    returns = (market + own) / (market + own).std(axis=2, keepdims=True)
    returns += spread * rng.standard_normal((count, trials, 1)) / np.sqrt(YEAR)
    returns[0] += edge / np.sqrt(YEAR)
    return list(0.01 * returns)


def judged(returns: list[FloatArray], seed: int = 0) -> ConfidenceSet:
    return model_confidence_set(returns, level=0.9, bootstraps=200, seed=seed)


@pytest.mark.parametrize(
    ("sessions", "trials", "count", "spread"),
    mostly_slow([(250, 2, 4, 0.0), (500, 2, 4, 2.0), (250, 5, 8, 1.0)], (250, 2, 4, 0.0)),
)
def test_the_true_best_is_dropped_no_more_often_than_stated(
    sessions: int, trials: int, count: int, spread: float
) -> None:
    drops = sum(
        not judged(phase(seed, sessions=sessions, trials=trials, count=count, spread=spread), seed).kept[0]
        for seed in SEEDS
    )
    assert drops <= 0.1 * len(SEEDS)


@pytest.mark.slow
def test_the_planted_best_of_twenty_is_kept_alone_or_among_three() -> None:
    found = [judged(phase(seed, **LARGE, edge=4.0), seed).kept for seed in range(20)]
    fine = [kept[0] and sum(kept) <= 3 for kept in found]
    assert sum(fine) >= 0.95 * len(fine)


@pytest.mark.slow
def test_of_twenty_equal_ones_all_are_kept_about_as_often_as_stated() -> None:
    found = [judged(phase(seed, **LARGE), seed).kept for seed in range(40)]
    assert 0.85 <= sum(map(all, found)) / len(found) < 1.0


@pytest.mark.slow
def test_without_the_effect_of_seeds_lucky_trials_would_drop_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blind = SeedEffect(0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(confidence_set, "seed_effect", lambda scaled, size: blind)
    drops = sum(not judged(phase(seed, sessions=500, spread=2.0), seed).kept[0] for seed in SEEDS)
    assert drops > 0.2 * len(SEEDS)


def test_a_true_edge_drops_the_others() -> None:
    found = [judged(phase(seed, sessions=500, edge=8.0), seed) for seed in range(10)]
    assert all(each.kept == (True, False, False, False) for each in found)
    assert all(each.p_values[0] == 1.0 for each in found)


def test_the_means_are_sharpe_ratios_of_one_session() -> None:
    returns = phase(3)
    found = judged(returns)
    each = [np.mean([trial.mean() / trial.std(ddof=1) for trial in trials]) for trials in returns]
    assert found.sharpes == pytest.approx(each)
    assert found.sessions == 250


def test_volatility_changes_nothing() -> None:
    returns = phase(4, edge=3.0)
    louder = [returns[0], 5 * returns[1], *returns[2:]]
    assert judged(louder).p_values == pytest.approx(judged(returns).p_values)


def test_the_same_seed_gives_the_same_set_and_another_other_p_values() -> None:
    returns = phase(5, edge=2.0)
    assert judged(returns, 1) == judged(returns, 1)
    assert judged(returns, 1).p_values != judged(returns, 2).p_values


def test_equal_returns_share_one_verdict() -> None:
    returns = phase(6, edge=8.0, sessions=500)
    twins = judged([returns[0], returns[0], returns[1], returns[1]])
    assert twins.kept == (True, True, False, False)
    assert twins.p_values[2] == twins.p_values[3]
    alike = judged([returns[1]] * 3)
    assert (alike.kept, alike.p_values) == ((True,) * 3, (1.0,) * 3)


def test_a_few_sessions_decide_nothing_and_their_precision_is_known() -> None:
    returns = phase(7, edge=50.0)
    few = judged([each[:, : MIN_SESSIONS - 1] for each in returns])
    assert (few.kept, few.p_values, few.sessions) == ((True,) * 4, (None,) * 4, MIN_SESSIONS - 1)
    assert few.precision is not None
    assert judged(returns).p_values[0] == 1.0
    assert judged([each[:, :2] for each in returns]).kept == (True,) * 4


def test_one_alternative_is_the_best() -> None:
    assert judged(phase(8)[:1]).p_values == (1.0,)


def test_constant_returns_are_not_scaled() -> None:
    assert scale_to_unit_variance(np.zeros((1, 5))).tolist() == [[0.0] * 5]


def test_blocks_grow_with_autocorrelation() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1000, 3))
    slow = np.array([noise[max(0, t - 20) : t + 1].sum(axis=0) for t in range(1000)])
    assert block_length(noise) <= 4
    assert block_length(slow) > 15
    assert block_length(np.zeros((100, 2))) == 1


def test_the_compared_mean_of_windows_is_the_score() -> None:
    rng = np.random.default_rng(0)
    windows = [0.01 * rng.standard_normal(size) + 0.002 for size in (30, 50, 20)]
    joined = np.concatenate(windows)[None]
    for kind, borders in (("joined", ()), ("mean_window", (30, 80))):
        spec = ScoreSpec(kind=kind, min_trades=0)
        found = score(spec, [windows], trades=[1], ruined=[False], sessions_per_year=YEAR).value
        assert float(scale_to_unit_variance(joined, borders).mean()) * np.sqrt(YEAR) == pytest.approx(
            found, rel=1e-12
        )


def test_the_level_is_a_share() -> None:
    with pytest.raises(BadInputError, match=r"level=1\.0 is not allowed"):
        model_confidence_set(phase(0), level=1.0, bootstraps=100, seed=0)
