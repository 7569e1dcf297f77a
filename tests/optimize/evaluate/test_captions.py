"""The best baseline, and whether it is beaten."""

from dataclasses import dataclass

from optimize.evaluate.captions import best_baseline, better_baseline


@dataclass(frozen=True)
class Scored:
    """A baseline by its name and score."""

    name: str
    score: float | None


FLAT, HOLD, RANDOM = Scored("flat", None), Scored("buy_and_hold", -0.5), Scored("random_0.02", -1.5)


def test_the_best_baseline_has_the_highest_score_and_one_without_a_score_is_none() -> None:
    assert best_baseline([FLAT, RANDOM, HOLD]) is HOLD
    assert best_baseline([FLAT]) is None


def test_a_policy_must_score_above_the_best_baseline() -> None:
    assert better_baseline([FLAT, RANDOM, HOLD], -0.6) is HOLD
    assert better_baseline([FLAT, RANDOM, HOLD], -0.5) is HOLD  # an equal score beats nothing
    assert better_baseline([FLAT, RANDOM, HOLD], -0.4) is None
    assert better_baseline([FLAT], -9.0) is None
