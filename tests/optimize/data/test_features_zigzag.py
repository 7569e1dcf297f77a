"""Confirmed ZigZag pivots: golden ones, hand-made ones, and the finite memory."""

import csv
from pathlib import Path

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.data.features import compute_features
from optimize.data.features.spec import FeatureSpec
from optimize.data.features.zigzag import ZIGZAG_BARS, confirmed
from tests.optimize.data.samples import random_walk, table_of

GOLDEN = [  # reference/NUMBERS.md: 5 % on closes, without the last leg, which repaints
    (1, "2018-01-26", 276.01),
    (-1, "2018-02-08", 248.13),
    (1, "2018-03-09", 268.59),
    (-1, "2018-04-02", 248.97),
    (1, "2018-09-20", 285.16),
    (-1, "2018-10-29", 257.45),
    (1, "2018-11-07", 274.19),
    (-1, "2018-11-23", 256.86),
]


def pivots(close: FloatArray, pct: float) -> list[tuple[int, int, int]]:
    """Return (1 high or -1 low, row, row at which it is known) of each confirmed pivot."""
    found: list[tuple[int, int, int]] = []
    for row in range(len(close)):
        direction, pivot = confirmed(close, 0, row, pct)
        if pivot >= 0 and (not found or found[-1][1] != pivot):
            found.append((-direction, pivot, row))
    return found


@pytest.mark.market_data
def test_the_confirmed_pivots_are_the_golden_ones(market_data: Path) -> None:
    path = market_data.parent / "reference" / "indicators" / "skender_default_quotes.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    close = np.array([float(row["close"]) for row in rows])
    found = [(kind, rows[pivot]["date"], close[pivot]) for kind, pivot, _ in pivots(close, 5.0)]
    start = next(index for index, each in enumerate(found) if each[1] == GOLDEN[0][1])
    assert found[start : start + len(GOLDEN)] == GOLDEN
    assert found[:start] == [(-1, "2017-01-03", 212.8)]  # the first bar, below all that follow it
    assert [each[1] for each in found[start + len(GOLDEN) :]] == ["2018-12-03", "2018-12-24"]


def test_a_pivot_is_known_at_the_close_that_has_reversed_by_the_percentage() -> None:
    close = np.array([100, 104, 110, 105, 104.5, 103, 100, 104.9, 105, 111, 104.0])
    assert pivots(close, 5.0) == [(-1, 0, 2), (1, 2, 4), (-1, 6, 8), (1, 9, 10)]


def test_the_columns_are_those_of_the_last_confirmed_pivot() -> None:
    bars = random_walk(600, seed=8, volatility=0.01)
    spec = FeatureSpec(indicators=["zigzag"], zigzag_pct=[2.0, 3.5])
    values, names, _ = compute_features(bars, spec, table_of(bars, "24/7"))
    assert names[3:] == ("zigzag_direction_3.5", "zigzag_distance_3.5", "zigzag_age_3.5")
    close, row = bars.close[:, 0], 550
    for column, pct in ((0, 2.0), (3, 3.5)):
        direction, pivot = confirmed(close, row - ZIGZAG_BARS + 1, row, pct)
        distance = np.log(close[row] / close[pivot])
        age = (row - pivot) / ZIGZAG_BARS
        np.testing.assert_allclose(values[row, 0, column : column + 3], [direction, distance, age], rtol=1e-6)
        assert direction * distance > 0  # a leg up is above the low that it began at


def test_a_market_calmer_than_the_percentage_has_no_pivot() -> None:
    bars = random_walk(600, volatility=1e-5)
    values, _, _ = compute_features(bars, FeatureSpec(indicators=["zigzag"]), table_of(bars, "24/7"))
    np.testing.assert_array_equal(values[:, 0], np.tile([0.0, 0.0, 1.0], 5)[None].repeat(600, axis=0))


@pytest.mark.parametrize("pct", [1.5, 3.5])
def test_the_window_hides_little_of_the_whole_history(pct: float) -> None:
    close = random_walk(3000, seed=2, volatility=0.005).close[:, 0]
    rows = range(500, 3000, 7)
    whole = [confirmed(close, 0, row, pct) for row in rows]
    trailing = [confirmed(close, row - ZIGZAG_BARS + 1, row, pct) for row in rows]
    same = np.mean([one == other for one, other in zip(whole, trailing, strict=True)])
    assert same > 0.97
