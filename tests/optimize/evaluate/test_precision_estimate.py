"""The effect of seeds with its interval, and the sessions or trials that a lead takes."""

import math
from typing import Any

import numpy as np
import pytest

from optimize.evaluate.confidence_set import model_confidence_set, scale_to_unit_variance
from optimize.evaluate.precision import Precision
from optimize.evaluate.precision_estimate import SeedEffect, critical_value, expected_precision, seed_effect
from tests.optimize.evaluate.test_confidence_set import YEAR, phase

SIZE = 0.1


def effect(seed: int, spread: float, trials: int = 5) -> SeedEffect:
    drawn = phase(seed, sessions=500, trials=trials, spread=spread)
    return seed_effect([scale_to_unit_variance(each) for each in drawn], SIZE)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_deviation_of_seeds_is_found_again(spread: float) -> None:
    found = [effect(seed, spread).estimate for seed in range(30)]
    assert np.sqrt(np.mean(np.square(found)) * YEAR) == pytest.approx(spread, abs=0.5)


@pytest.mark.parametrize(("spread", "trials"), [(0.0, 2), (1.0, 2), (3.0, 2), (3.0, 5)])
def test_its_interval_holds_the_truth_as_often_as_stated(spread: float, trials: int) -> None:
    found = [effect(seed, spread, trials) for seed in range(100)]
    inside = [each.low <= spread / np.sqrt(YEAR) <= each.high for each in found]
    assert sum(inside) >= 85  # of 90 expected


def test_few_trials_that_agree_by_luck_leave_the_effect_open() -> None:
    found = [effect(seed, 0.5, 2) for seed in range(30)]
    clamped = [each for each in found if each.estimate == 0]
    assert clamped
    assert all(each.low == 0 and each.high > 0 for each in clamped)
    assert all(each.cautious >= each.estimate for each in found)
    assert seed_effect([np.ones((1, 4))], SIZE) == SeedEffect(0.0, 0.0, math.inf, 0.0)


def test_fewer_trials_need_a_wider_margin() -> None:
    margins = [critical_value(4, SIZE, freedom) for freedom in (4, 20, 1000)]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] == pytest.approx(critical_value(4, SIZE), rel=0.01)


def test_the_sessions_and_trials_asked_for_resolve_the_lead() -> None:
    found = Precision(of_sessions=1.2, of_seeds=0.02, sessions=300, trials=2.0, quantile=3.5, lead=0.3)
    sessions = found.sessions_for(0.5)
    assert sessions is not None
    enough = Precision(1.2, 0.02, round(sessions), 2.0, 3.5, 0.3)
    assert enough.resolved == pytest.approx(0.5, rel=0.01)
    assert found.sessions_for(0.3) is None  # two trials alone are too few for it
    assert found.trials_for(0.2) is None  # 300 sessions are
    more, each = found.both_for(0.2)
    assert Precision(1.2, 0.02, round(more), each, 3.5, 0.3).resolved == pytest.approx(0.2, rel=0.01)


@pytest.mark.slow
def test_the_resolved_lead_is_detected_as_often_as_promised() -> None:
    size: dict[str, Any] = {"sessions": 1000, "trials": 3, "count": 6, "spread": 1.0}
    seen = []
    for seed in range(30):
        resolution = model_confidence_set(
            phase(seed, **size), level=1 - SIZE, bootstraps=100, seed=seed
        ).precision
        assert resolution is not None
        drawn = phase(1000 + seed, **size, edge=resolution.resolved * math.sqrt(YEAR))
        kept = model_confidence_set(drawn, level=1 - SIZE, bootstraps=200, seed=seed).kept
        seen.append(kept[0] and sum(kept) <= 2)
    assert sum(seen) >= 0.8 * len(seen)


def test_before_anything_ran_the_expected_lead_is_of_the_right_size() -> None:
    expected = expected_precision(count=6, sessions=1000, trials=3, per_year=YEAR, size=SIZE)
    found = model_confidence_set(
        phase(0, sessions=1000, trials=3, count=6, spread=1.0), level=1 - SIZE, bootstraps=100, seed=0
    ).precision
    assert found is not None
    assert 0.5 < expected.resolved / found.resolved < 2
