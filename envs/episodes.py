"""Episodes: random spans or sessions for training, listed spans for evaluation."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from envs.errors import BadInputError, require
from envs.types import IntArray


class Episodes(Protocol):
    """Source of spans; the first decision is at the close of `first`, the account is closed on bar `last`."""

    def bounds(self) -> tuple[int, int]:
        """Return the lowest first and the highest last bar that can be drawn."""
        ...

    def restart(self) -> None:
        """Start over; an environment calls this when all its rows are reset."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Return first (count,) and last (count,)."""
        ...


class RandomEpisodes:
    """Spans of `bars` steps, uniform within the closed bar range [first, last], cut to it when longer."""

    def __init__(self, first: int, last: int, bars: int) -> None:
        require(0 <= first < last, "first", first, f">= 0 and before the last bar, {last}")
        require(bars >= 1, "env.episode_bars", bars, ">= 1")
        self._first, self._last = first, last
        self._bars = min(bars, last - first)

    def bounds(self) -> tuple[int, int]:
        """Return the closed bar range."""
        return self._first, self._last

    def restart(self) -> None:
        """Do nothing: draws depend on the generator alone."""

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Return first (count,) and last (count,) of random spans."""
        first = rng.integers(self._first, self._last - self._bars + 1, size=count, dtype=np.int64)
        return first, first + self._bars


class SequentialEpisodes:
    """Listed spans in order, repeated from the first."""

    def __init__(self, firsts: Sequence[int] | IntArray, lasts: Sequence[int] | IntArray) -> None:
        self._firsts = np.array(firsts, dtype=np.int64)
        self._lasts = np.array(lasts, dtype=np.int64)
        if self._firsts.ndim != 1 or self._firsts.shape != self._lasts.shape or len(self._firsts) == 0:
            raise BadInputError(
                f"episodes need as many first as last bars, at least one of each; "
                f"got {self._firsts.size} and {self._lasts.size}"
            )
        for first, last in zip(self._firsts.tolist(), self._lasts.tolist(), strict=True):
            require(0 <= first < last, "first", first, f">= 0 and before the last bar, {last}")
        self._next = 0

    def bounds(self) -> tuple[int, int]:
        """Return the lowest first and the highest last bar of the list."""
        return int(self._firsts.min()), int(self._lasts.max())

    def restart(self) -> None:
        """Restart at the first span."""
        self._next = 0

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Return first (count,) and last (count,) of the next spans."""
        index = (self._next + np.arange(count)) % len(self._firsts)
        self._next = (self._next + count) % len(self._firsts)
        return self._firsts[index], self._lasts[index]


class SessionEpisodes:
    """Whole sessions within the closed bar range [first, last], drawn uniformly."""

    def __init__(self, session: IntArray, first: int, last: int) -> None:
        self._firsts, self._lasts = session_spans(session, first, last)

    def bounds(self) -> tuple[int, int]:
        """Return the first bar of the first session and the last bar of the last one."""
        return int(self._firsts[0]), int(self._lasts[-1])

    def restart(self) -> None:
        """Do nothing: draws depend on the generator alone."""

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Return first (count,) and last (count,) of random sessions."""
        index = rng.integers(len(self._firsts), size=count)
        return self._firsts[index], self._lasts[index]


def session_spans(session: IntArray, first: int, last: int) -> tuple[IntArray, IntArray]:
    """Return the first and last bars of the sessions that lie entirely within the closed bar range.

    session (T,) is the non-decreasing ordinal of each bar's session. The first decision falls at the close of
    a session's first bar, so a session of a single bar has none and is left out.
    """
    require(0 <= first < last, "first", first, f">= 0 and before the last bar, {last}")
    require(last < len(session), "last", last, f"below the number of bars, {len(session)}")
    firsts = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
    lasts = np.append(firsts[1:], len(session)) - 1
    whole = (firsts >= first) & (lasts <= last) & (lasts > firsts)
    if not whole.any():
        raise BadInputError(
            f"bars {first}..{last} hold no whole session of two bars or more, so no episode: "
            "use a longer span or a finer data.timeframe"
        )
    return firsts[whole].astype(np.int64), lasts[whole].astype(np.int64)
