"""The set keeps the true best as often as it says, whatever seeds do, and drops what is worse."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate import confidence
from optimize.evaluate.confidence import ConfidenceSet, block_length, confidence_set, scale, seed_deviation

SEEDS = range(50)
YEAR = 365


def phase(
    seed: int, *, sessions: int = 120, trials: int = 2, count: int = 4, spread: float = 0.0, edge: float = 0.0
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
    return confidence_set(returns, level=0.9, bootstraps=200, seed=seed)


@pytest.mark.parametrize(
    ("sessions", "trials", "count", "spread"), [(60, 2, 4, 0.0), (500, 2, 4, 2.0), (250, 5, 20, 1.0)]
)
def test_the_true_best_is_dropped_no_more_often_than_stated(
    sessions: int, trials: int, count: int, spread: float
) -> None:
    drops = sum(
        not judged(phase(seed, sessions=sessions, trials=trials, count=count, spread=spread), seed).kept[0]
        for seed in SEEDS
    )
    assert drops <= 0.1 * len(SEEDS)


def test_without_what_seeds_change_lucky_ones_would_drop_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence, "seed_deviation", lambda scaled: 0.0)
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
    assert found.sessions == 120


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


def test_a_few_sessions_tell_nothing_apart() -> None:
    returns = phase(7, edge=50.0)
    few = judged([each[:, :19] for each in returns])
    assert (few.kept, few.p_values, few.sessions) == ((True,) * 4, (None,) * 4, 19)
    assert judged([each[:, :20] for each in returns]).p_values[0] == 1.0


def test_one_alternative_is_the_best() -> None:
    assert judged(phase(8)[:1]).p_values == (1.0,)


def test_what_never_moved_has_no_volatility_to_be_brought_to_one() -> None:
    assert scale(np.zeros((1, 5))).tolist() == [[0.0] * 5]


def test_blocks_grow_with_autocorrelation() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1000, 3))
    slow = np.array([noise[max(0, t - 20) : t + 1].sum(axis=0) for t in range(1000)])
    assert block_length(noise) <= 4
    assert block_length(slow) > 15
    assert block_length(np.zeros((100, 2))) == 1


def test_the_deviation_of_seeds_is_found_again() -> None:
    for spread in (0.0, 3.0):
        found = [
            seed_deviation([scale(each) for each in phase(s, sessions=500, trials=5, spread=spread)])
            for s in range(30)
        ]
        assert np.sqrt(np.mean(np.square(found)) * YEAR) == pytest.approx(spread, abs=0.5)
    assert seed_deviation([np.ones((1, 4))]) == 0.0


def test_the_level_is_a_share() -> None:
    with pytest.raises(BadInputError, match=r"level=1\.0 is not allowed"):
        confidence_set(phase(0), level=1.0, bootstraps=100, seed=0)
