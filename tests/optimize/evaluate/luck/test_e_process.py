"""The e-process multiplies bets, and without an edge it rarely grows."""

import numpy as np
import pytest

from optimize.errors import BadInputError
from optimize.evaluate.luck import e_process

RETURNS = np.array([0.01, -0.005, 0.003, 0, -0.02, 0.015, 0.007, -0.001, 0.004, -0.012, 0.02, 0.01])


def test_golden_values() -> None:
    found = e_process(returns=RETURNS, bet=5.0)
    assert len(found) == 12
    assert found[9:] == pytest.approx([0.9926642619, 1.0919306881, 1.1465272225], abs=1e-10)


def test_without_an_edge_it_reaches_one_over_the_level_no_more_often_than_the_level() -> None:
    noise = np.clip(np.random.default_rng(0).standard_normal((2000, 500)), -3, 3) * 0.01
    ever = [e_process(returns=each, bet=10.0).max() >= 20 for each in noise]
    assert np.mean(ever) <= 0.05
    gained = [e_process(returns=each + 0.003, bet=10.0).max() >= 20 for each in noise[:200]]
    assert np.mean(gained) > 0.9


def test_no_returns_give_no_evidence_and_bad_bets_are_refused() -> None:
    assert len(e_process(returns=np.array([]), bet=1.0)) == 0
    with pytest.raises(BadInputError, match=r"bet=0\.0 is not allowed"):
        e_process(returns=RETURNS, bet=0.0)
    with pytest.raises(BadInputError, match=r"bet=51\.0 .* at most 1 / 0\.02"):
        e_process(returns=RETURNS, bet=51.0)
    assert e_process(returns=RETURNS, bet=50.0)[-1] == 0.0
    with pytest.raises(BadInputError, match=r"returns with not finite values=1"):
        e_process(returns=np.array([np.nan]), bet=1.0)
