"""Every feature, on every market that can serve it: no later bar, and all it needs within its warm-up."""

from pathlib import Path

import numpy as np
import pytest

from optimize.data.features import FEATURES
from tests.optimize.data.feature_worlds import MADE, REAL, World, pairs, world
from tests.optimize.data.samples import features_of, rows_of

ENDS = 40  # at which a feature is recomputed
REAL_ENDS = 15
CHANGE = 700  # bar at which two of the worlds change


def ends_of(bars: int, warmup: int, count: int) -> list[int]:
    chosen = np.random.default_rng(1).integers(warmup + 1, bars + 1, count)
    return [*chosen.tolist(), min(bars, CHANGE + warmup + 1)]


def hold_causal(name: str, place: World, count: int) -> None:
    full, _, warmup = features_of(place.bars, [name], place.table)
    for end in ends_of(place.bars.n_bars, warmup, count):
        part, _, _ = features_of(rows_of(place.bars, slice(0, end)), [name], place.table)
        np.testing.assert_array_equal(part[-1], full[end - 1])


def hold_tail(name: str, place: World, count: int) -> None:
    full, _, warmup = features_of(place.bars, [name], place.table)
    relative = 1e-6 if FEATURES[name].kind == "level" else 0.0
    for end in ends_of(place.bars.n_bars, warmup, count):
        tail, _, _ = features_of(rows_of(place.bars, slice(end - warmup - 1, end)), [name], place.table)
        np.testing.assert_allclose(tail[-1], full[end - 1], rtol=relative, atol=1e-6)


def test_every_feature_has_its_worlds() -> None:
    for worlds in (MADE, REAL):
        assert {name for name, _ in pairs(worlds)} == set(FEATURES)


@pytest.mark.parametrize(("name", "place"), pairs(MADE))
def test_a_feature_reads_no_later_bar(name: str, place: str) -> None:
    hold_causal(name, world(place), ENDS)


@pytest.mark.parametrize(("name", "place"), pairs(MADE))
def test_a_tail_of_the_warmup_gives_the_same_value(name: str, place: str) -> None:
    hold_tail(name, world(place), ENDS)


@pytest.mark.market_data
@pytest.mark.parametrize(("name", "place"), pairs(REAL))
def test_a_feature_reads_no_later_real_bar(name: str, place: str, market_data: Path) -> None:
    hold_causal(name, world(place, market_data), REAL_ENDS)


@pytest.mark.market_data
@pytest.mark.parametrize(("name", "place"), pairs(REAL))
def test_a_tail_of_real_bars_gives_the_same_value(name: str, place: str, market_data: Path) -> None:
    hold_tail(name, world(place, market_data), REAL_ENDS)
