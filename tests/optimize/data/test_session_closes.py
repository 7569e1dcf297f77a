"""Session closes: bars of one instrument are recognised, those of another are not."""

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.data.session_closes import Closes, join_closes, move_alike

DAYS = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")


def walk(seed: int = 0, size: float = 0.01) -> FloatArray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, size, len(DAYS))))


def closes(values: FloatArray, start: int = 0, end: int | None = None) -> Closes:
    part = slice(start, end)
    return Closes(("A",), DAYS[part], np.asarray(values)[part, None])


def correlated(share: float) -> FloatArray:
    common, own = np.log(walk(0)), np.log(walk(1))
    joined: FloatArray = np.exp(np.sqrt(share) * common + np.sqrt(1.0 - share) * own)
    return joined


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (closes(walk()), True),
        (closes(walk() / 20.0), True),
        (closes(walk() * (1.0 + 1e-4 * np.sin(np.arange(len(DAYS))))), True),
        (closes(walk(), 40), True),
        (closes(np.where(DAYS[30] > DAYS, walk(), walk() / 4.0)), True),  # a split that one feed adjusted
        (closes(walk(), len(DAYS) - 9), False),  # too few sessions
        (closes(walk(1)), False),
        (closes(1e4 / walk()), False),
        (closes(correlated(0.8)), False),
        (closes(np.full(len(DAYS), 100.0)), False),
    ],
)
def test_returns_show_whether_two_series_are_of_one_instrument(other: Closes, alike: bool) -> None:
    assert move_alike(closes(walk()), other) == alike
    assert move_alike(other, closes(walk())) == alike


def test_two_instruments_at_rest_are_not_the_same() -> None:
    flat = closes(np.full(len(DAYS), 1.0))
    assert not move_alike(flat, flat)


def test_joined_closes_have_the_level_of_the_newer() -> None:
    joined = join_closes(closes(walk(), 0, 40), closes(walk() * 2.0, 20))
    np.testing.assert_array_equal(joined.date, DAYS)
    np.testing.assert_allclose(joined.close[:, 0], walk() * 2.0)
