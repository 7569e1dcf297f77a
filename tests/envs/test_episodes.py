"""Spans of episodes: random ones stay in range, listed ones come in order, sessions stay whole."""

import numpy as np
import pytest

from envs.episodes import RandomEpisodes, SequentialEpisodes, SessionEpisodes, session_spans
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


#                   bar 0  1  2  3  4  5  6  7  8  9 10 11; session 3 has one bar, session 4 none
SESSION = np.array([0, 0, 1, 1, 1, 2, 2, 3, 5, 5, 5, 5])


@pytest.mark.parametrize(
    ("first", "last", "firsts", "lasts"),
    [
        (0, 11, [0, 2, 5, 8], [1, 4, 6, 11]),
        (1, 10, [2, 5], [4, 6]),  # the sessions at both edges are cut
        (2, 6, [2, 5], [4, 6]),  # whole up to the edge
        (3, 7, [5], [6]),
    ],
)
def test_session_spans_are_whole_sessions_of_two_bars_or_more(
    first: int, last: int, firsts: list[int], lasts: list[int]
) -> None:
    spans = session_spans(SESSION, first, last)
    assert [span.tolist() for span in spans] == [firsts, lasts]
    assert SequentialEpisodes(*spans).bounds() == (firsts[0], lasts[-1])


def test_random_sessions_cover_the_whole_span_and_nothing_after_it() -> None:
    session = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 8, size=40))
    allowed = session_spans(session, 11, 120)
    episodes = SessionEpisodes(session, 11, 120)
    first, last = episodes.draw(3000, np.random.default_rng(1))
    assert set(zip(first.tolist(), last.tolist(), strict=True)) == set(
        zip(*(span.tolist() for span in allowed), strict=True)
    )
    assert (session[first] == session[last]).all()
    assert episodes.bounds() == (first.min(), last.max())
    assert 11 <= first.min() < last.max() <= 120 < len(session) - 1
    counts = np.unique(first, return_counts=True)[1]
    assert counts.min() > 3000 / len(counts) * 0.7


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (3, 4, r"bars 3\.\.4 hold no whole session"),
        (7, 10, r"bars 7\.\.10 hold no whole session"),  # one of a single bar, one cut
        (5, 5, "first=5"),
        (0, 12, "last=12 .*below the number of bars, 12"),
    ],
)
def test_spans_without_a_whole_session_are_refused(first: int, last: int, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        SessionEpisodes(SESSION, first, last)
