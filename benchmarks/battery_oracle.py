"""The oracle of a planted market: it knows the expected return of each bar, sizes it and trades at a cost.

Its exposure is the expected return over the variance, scaled and cut at the leverage; it trades where the
exposure moves by a band, which is the one that earns most on a long sample.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from benchmarks.battery_edges import Edge
from benchmarks.battery_markets import DAY, PLANTED, Planted, plant
from envs.types import FloatArray
from optimize.evaluate.probe.trade import hold_within

COST = 0.6e-4  # a side: commission and slippage of cost=fx
YEAR = 365.25  # sessions
SCALE = 0.3  # exposure at the mean size of the signal: few are cut, which a Sharpe ratio prefers
BANDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
SAMPLE, SAMPLE_SEED = 400_000, 7
STRENGTHS = (2, 3, 4)
LOW, HIGH, STEPS = 0.005, 0.25, 9  # sizes between which an edge is sought, and halvings of that span


def signal_of(planted: Planted) -> FloatArray:
    """Return the expected return over the variance (T, A), in units of its mean size."""
    signal = planted.drift / planted.volatility**2
    size = float(np.abs(signal)[:, np.abs(signal).any(axis=0)].mean()) if signal.any() else 1.0
    return signal / size


def exposures(signal: FloatArray, band: float) -> FloatArray:
    """Return the exposure that the oracle holds through each bar (T, A)."""
    wanted = np.clip(SCALE * signal, -1.0, 1.0)
    return hold_within(wanted / np.maximum(np.abs(wanted).sum(axis=1, keepdims=True), 1.0), band)


def sharpe_of(planted: Planted, held: FloatArray) -> float:
    """Return the annual net Sharpe ratio of exposures, over sessions of a day.

    The mean is that of the expected returns, so that a sample has hardly any luck.
    """
    cost = COST * np.abs(np.diff(held, axis=0, prepend=0.0))
    paid = (held * np.expm1(planted.returns) - cost).sum(axis=1)
    expected = float((held * (planted.drift + planted.volatility**2 / 2) - cost).sum(axis=1).mean())
    spread = float(paid[: len(paid) // DAY * DAY].reshape(-1, DAY).sum(axis=1).std(ddof=1))
    return DAY * expected / spread * float(np.sqrt(YEAR)) if spread > 0 else 0.0


@dataclass(frozen=True)
class Oracle:
    """The best band on a sample, and the Sharpe ratio that it earns there."""

    sharpe: float
    band: float


def best_oracle(planted: Planted) -> Oracle:
    """Return the oracle whose band earns most."""
    signal = signal_of(planted)
    tried = [Oracle(sharpe_of(planted, exposures(signal, band)), band) for band in BANDS]
    return max(tried, key=lambda each: each.sharpe)


def calibrate(kind: str, strength: float, bars: int = SAMPLE) -> Edge:
    """Return the size at which the best oracle earns a Sharpe ratio on a sample, by halving."""
    low, high = LOW, HIGH
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if oracle_at(kind, middle, bars).sharpe < strength else (low, middle)
    edge = float(np.sqrt(low * high))
    return Edge(round(edge, 5), oracle_at(kind, edge, bars).band)


@lru_cache(maxsize=256)
def oracle_at(kind: str, edge: float, bars: int) -> Oracle:
    """Return the best oracle on a long sample of a kind."""
    return best_oracle(plant(kind, edge, bars, np.random.default_rng([SAMPLE_SEED])))


if __name__ == "__main__":
    for name in PLANTED:
        print(name, {strength: calibrate(name, strength) for strength in STRENGTHS}, flush=True)
