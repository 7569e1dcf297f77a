"""Spans of episodes: random ones stay in range, listed ones come in order."""

import numpy as np
import pytest

from envs.episodes import RandomEpisodes, SequentialEpisodes
from envs.errors import BadInputError


def test_random_spans_cover_exactly_the_closed_range() -> None:
    first, last = RandomEpisodes(10, 20, bars=4).draw(2000, np.random.default_rng(0))
    assert (last - first == 4).all()
    assert set(first.tolist()) == set(range(10, 17))
    assert last.max() == 20


def test_random_spans_are_cut_to_a_short_range() -> None:
    first, last = RandomEpisodes(10, 20, bars=512).draw(5, np.random.default_rng(0))
    assert (first == 10).all()
    assert (last == 20).all()


def test_listed_spans_cycle_and_restart() -> None:
    episodes = SequentialEpisodes([0, 5, 9], [4, 8, 12])
    rng = np.random.default_rng(0)
    assert [span.tolist() for span in episodes.draw(2, rng)] == [[0, 5], [4, 8]]
    assert [span.tolist() for span in episodes.draw(2, rng)] == [[9, 0], [12, 4]]
    episodes.restart()
    assert episodes.draw(1, rng)[0].tolist() == [0]
    assert episodes.bounds() == (0, 12)


@pytest.mark.parametrize(("first", "last", "bars"), [(5, 5, 3), (6, 5, 3), (-1, 5, 3), (0, 5, 0)])
def test_impossible_random_spans_are_refused(first: int, last: int, bars: int) -> None:
    with pytest.raises(BadInputError):
        RandomEpisodes(first, last, bars)


@pytest.mark.parametrize(("firsts", "lasts"), [([], []), ([1], [2, 3]), ([3], [3]), ([0, 9], [4, 8])])
def test_impossible_lists_are_refused(firsts: list[int], lasts: list[int]) -> None:
    with pytest.raises(BadInputError):
        SequentialEpisodes(firsts, lasts)
