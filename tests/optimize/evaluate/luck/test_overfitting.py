"""The probability of backtest overfitting follows the paper, ties and constant trials included."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.luck import probability_of_backtest_overfitting
from optimize.evaluate.luck.overfitting import Statistic

HAND = (
    np.array(
        [
            [3, 1, 0, 2],
            [2, 2, -1, -1],
            [-1, 1, 2, 0],
            [0, 2, 3, 1],
            [-2, 1, 1, 3],
            [1, -1, 0, 2],
            [2, 0, -2, -1],
            [-1, 1, 4, 2],
        ]
    )
    / 100
)


def skilled() -> FloatArray:
    returns = np.random.default_rng(11).standard_normal((400, 10)) * 0.01
    returns[:, 4] += 0.0012
    return returns


def test_every_split_of_the_table_by_hand() -> None:
    found = probability_of_backtest_overfitting(returns=HAND, n_blocks=4, statistic="mean")
    assert found.blocks_in_sample.sum(axis=1).tolist() == [2] * 6
    first_two = [np.flatnonzero(row).tolist() for row in found.blocks_in_sample]
    assert first_two == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found.winner.tolist() == [1, 3, 0, 2, 2, 3]
    rank = np.array([0.4, 0.4, 0.2, 0.2, 0.2, 0.2])
    assert found.logits == pytest.approx(np.log(rank / (1 - rank)), abs=1e-12)
    assert found.probability == 1.0
    assert found.in_sample[0] == pytest.approx(np.mean(HAND[:4, 1]))
    assert found.out_of_sample[0] == pytest.approx(np.mean(HAND[4:, 1]))


def test_golden_probability_with_sharpe_ratios() -> None:
    found = probability_of_backtest_overfitting(returns=skilled(), n_blocks=8)
    assert len(found.logits) == 70
    assert found.probability == pytest.approx(0.0142857143, abs=1e-10)
    assert found.logits.mean() == pytest.approx(2.2367969475, abs=1e-10)


def test_the_statistics_of_a_split_are_those_of_its_sessions() -> None:
    returns = skilled()[:397]  # the last blocks are one session shorter
    found = probability_of_backtest_overfitting(returns=returns, n_blocks=4)
    blocks = np.array_split(returns, 4)
    for row, chosen in enumerate(found.blocks_in_sample):
        train = np.concatenate([block for block, taken in zip(blocks, chosen, strict=True) if taken])
        test = np.concatenate([block for block, taken in zip(blocks, chosen, strict=True) if not taken])
        inside, outside = (part.mean(axis=0) / part.std(axis=0, ddof=1) for part in (train, test))
        best = int(np.argmax(inside))
        assert found.winner[row] == best
        assert found.in_sample[row] == pytest.approx(inside[best], abs=1e-12)
        assert found.out_of_sample[row] == pytest.approx(outside[best], abs=1e-12)
    assert found.probability_of_loss == np.mean(found.out_of_sample < 0)


def test_tied_trials_share_the_average_rank() -> None:
    returns = np.repeat(skilled()[:, 4:5], 3, axis=1)  # three equal trials: rank 2 of 3, a logit of 0
    found = probability_of_backtest_overfitting(returns=returns, n_blocks=4)
    assert found.logits == pytest.approx(np.zeros(6), abs=1e-12)
    assert found.probability == 1.0


def test_noise_overfits_in_half_of_the_splits_and_skill_in_few() -> None:
    noise = np.random.default_rng(1).standard_normal((40, 400, 10))
    found = [probability_of_backtest_overfitting(returns=each, n_blocks=6).probability for each in noise]
    assert 0.4 < np.mean(found) < 0.6


def test_order_scale_and_constant_trials_do_not_matter() -> None:
    returns = skilled()
    expected = probability_of_backtest_overfitting(returns=returns, n_blocks=6)
    order = np.random.default_rng(2).permutation(10)
    changed = np.column_stack((np.zeros(400), returns[:, order] * np.arange(1, 11), np.full(400, 0.01)))
    found = probability_of_backtest_overfitting(returns=changed, n_blocks=6)
    assert found.n_trials == 10
    assert found.logits == pytest.approx(expected.logits, abs=1e-12)
    assert order[found.winner - 1].tolist() == expected.winner.tolist()


def test_a_trial_without_variance_in_one_half_never_wins_there() -> None:
    returns = skilled()
    returns[:200, 4] = 0.01  # it has no Sharpe ratio in the first two blocks
    found = probability_of_backtest_overfitting(returns=returns, n_blocks=4)
    assert found.winner[0] != 4
    assert found.winner[-1] == 4
    assert found.out_of_sample[-1] == -np.inf
    assert found.logits[-1] == pytest.approx(np.log(1 / 10))


@pytest.mark.parametrize("returns", [np.zeros((40, 3)), skilled()[:40, :1], np.full((40, 2), 0.01)])
def test_fewer_than_two_trials_have_no_probability(returns: FloatArray) -> None:
    found = probability_of_backtest_overfitting(returns=returns, n_blocks=4)
    assert np.isnan(found.probability)
    assert np.isnan(found.logits).all()


@pytest.mark.parametrize(
    ("returns", "n_blocks", "statistic", "message"),
    [
        (HAND, 3, "mean", "n_blocks=3 is not allowed"),
        (HAND, 22, "mean", "n_blocks=22 is not allowed"),
        (HAND, 6, "mean", "n_blocks=6 .* at most half of 8 sessions"),
        (HAND, 4, "median", "statistic='median' is not allowed"),
        (HAND[0], 4, "mean", r"shape=\(4,\)"),
        (np.where(HAND == 0, np.nan, HAND), 4, "mean", "missing values=5"),
        (np.where(HAND == 0, np.inf, HAND), 4, "mean", "infinite values=5"),
    ],
)
def test_bad_input_is_refused_by_name(
    returns: FloatArray, n_blocks: int, statistic: Statistic, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        probability_of_backtest_overfitting(returns=returns, n_blocks=n_blocks, statistic=statistic)
