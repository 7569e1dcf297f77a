"""Policies with known answers, for tests of the evaluation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.types import IntArray, Market

Acted = tuple[NDArray[Any], Any]


@dataclass(frozen=True)
class OraclePolicy:
    """Know the next bar: hold the sign of its move from open to close."""

    market: Market
    first: IntArray  # (N,) bar of the first decision

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        step = 0 if state is None else state
        after = np.minimum(self.first + step + 1, self.market.n_bars - 1)
        return np.sign(self.market.close[after] - self.market.open[after]).astype(np.float32), step + 1


@dataclass(frozen=True)
class MemoryPolicy:
    """Follow a decaying mean of the observations, so that both state and start matter."""

    assets: int

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        seen = observation.astype(np.float64).sum(axis=1)
        memory = np.zeros(len(seen)) if state is None else np.where(start, 0.0, state)
        memory = 0.7 * memory + 0.3 * seen
        shift = np.arange(self.assets) * 0.1
        return np.tanh(memory[:, None] + shift).astype(np.float32), memory


@dataclass(frozen=True)
class ConstantPolicy:
    """Send one action for ever."""

    value: float
    assets: int = 1

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        return np.full((len(observation), self.assets), self.value, dtype=np.float32), state
