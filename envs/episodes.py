"""Where an episode starts and ends: random spans for training, listed spans for evaluation."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from envs.errors import BadInputError, require
from envs.types import IntArray


class Episodes(Protocol):
    """A source of spans: the first decision falls at the close of `first`, the account closes on `last`."""

    def bounds(self) -> tuple[int, int]:
        """Return the lowest first and the highest last bar that can be drawn."""
        ...

    def restart(self) -> None:
        """Forget what was drawn; an environment calls it when it is reset as a whole."""
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
    """Listed spans, handed out in order and then again from the top."""

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
        """Begin again at the top of the list."""
        self._next = 0

    def draw(self, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Return first (count,) and last (count,) of the next spans."""
        index = (self._next + np.arange(count)) % len(self._firsts)
        self._next = (self._next + count) % len(self._firsts)
        return self._firsts[index], self._lasts[index]
