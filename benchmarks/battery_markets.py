"""Markets of the battery: realistic noise with one planted edge of a known kind and strength.

Hourly bars around the clock; the noise of a bar is Student's t with 5 degrees of freedom, 40 bps. The
strength of an edge is the annual Sharpe ratio, net of costs, of an oracle that knows the expected return of
every bar (`battery_oracle.py`); the sizes in EDGES were found on a sample of 400,000 bars.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from benchmarks.battery_edges import EDGES, NO_EDGE
from envs.types import FloatArray
from optimize.atomic import replacing

VOLATILITY, WICK = 0.004, 0.002  # of an hourly bar, and of its range beyond open and close
DEGREES = 5  # of Student's t
BARS, FRESH_BARS = 12_000, 60_000
DAY, WEEK = 24, 168
FIRST = "2021-01-04"  # a Monday
HOLDING = 240.0  # mean length of a regime, in bars
CALM, WILD = 0.6, 1.4  # volatility of the two regimes, before both are scaled
SPREAD, PERSISTENCE = 0.5, 0.99  # of the logarithm of a volatility that moves
LEARNING_SEED = 100  # of the first market of kind `learning`
LEARNING_EDGE = 0.06
USELESS = Path(__file__).resolve().parent / "battery_useless.py"


@dataclass(frozen=True, eq=False)
class Planted:
    """Log returns of a market, with the drift and volatility before each bar, known to an oracle; (T, A)."""

    returns: FloatArray
    drift: FloatArray
    volatility: FloatArray
    wicks: FloatArray  # (2, T, A) log distance of high and low from the bar's body


@dataclass(frozen=True)
class Kind:
    """A kind of edge: its description, its process, and its symbols."""

    words: str
    process: Callable[[float, int, np.random.Generator], tuple[FloatArray, FloatArray, FloatArray]]
    symbols: tuple[str, ...] = ("PLANTED",)
    extension: Path | None = None  # whose columns are added to the inputs of every contestant


def noise(bars: int, rng: np.random.Generator) -> FloatArray:
    """Return the noise of bars."""
    return np.asarray(rng.standard_t(DEGREES, bars) / np.sqrt(DEGREES / (DEGREES - 2)) * VOLATILITY)


def column(values: FloatArray | float, bars: int) -> FloatArray:
    """Return values as one asset (T, 1)."""
    return np.broadcast_to(np.asarray(values, np.float64), bars).reshape(-1, 1).copy()


def on_past(weights: FloatArray) -> Callable[..., tuple[FloatArray, FloatArray, FloatArray]]:
    """Return the process whose expected return is a weighted sum of the last returns, the newest first."""
    unit = weights / np.sqrt(np.sum(weights**2))

    def process(
        edge: float, bars: int, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        shock = noise(bars, rng)
        returns = lfilter([1.0], np.concatenate([[1.0], -edge * unit]), shock)
        return column(returns, bars), column(returns - shock, bars), column(VOLATILITY, bars)

    return process


def on_clock(period: int) -> Callable[..., tuple[FloatArray, FloatArray, FloatArray]]:
    """Return the process whose expected return is a sine wave of the clock."""

    def process(
        edge: float, bars: int, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        drift = edge * VOLATILITY * np.sqrt(2) * np.sin(2 * np.pi * np.arange(bars) / period)
        return column(drift + noise(bars, rng), bars), column(drift, bars), column(VOLATILITY, bars)

    return process


def lead_lag(edge: float, bars: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return two assets, of which the second follows the last return of the first."""
    first, second = noise(bars, rng), noise(bars, rng)
    drift = np.zeros((bars, 2))
    drift[1:, 1] = edge * first[:-1]
    return drift + np.column_stack([first, second]), drift, np.full((bars, 2), VOLATILITY)


def regime(edge: float, bars: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a market that continues its last return in wild times and reverts it in calm ones."""
    wild = np.cumsum(rng.random(bars) < 1 / HOLDING) % 2 == 1
    volatility = VOLATILITY * np.where(wild, WILD, CALM) / np.sqrt((WILD**2 + CALM**2) / 2)
    shock = (noise(bars, rng) * volatility / VOLATILITY).tolist()
    leaning = np.where(wild, edge, -edge).tolist()
    returns, last = [], 0.0
    for bar in range(bars):
        last = leaning[bar] * last + shock[bar]
        returns.append(last)
    found = np.array(returns)
    return column(found, bars), column(found - np.array(shock), bars), column(volatility, bars)


def moving_volatility(
    edge: float, bars: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a market with a constant expected return and a volatility that moves."""
    steps = rng.normal(0, SPREAD * np.sqrt(1 - PERSISTENCE**2), bars)
    steps[0] = rng.normal(0, SPREAD)
    volatility = VOLATILITY * np.exp(lfilter([1.0], [1.0, -PERSISTENCE], steps) - SPREAD**2)
    drift = np.full(bars, edge * VOLATILITY)
    shock = noise(bars, rng) * volatility / VOLATILITY
    return column(drift + shock, bars), column(drift, bars), column(volatility, bars)


def learning(edge: float, bars: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the market of LEARNING.md, whose returns have the volatility of the noise."""
    shock = np.sqrt(1 - edge**2) * noise(bars, rng)
    returns = lfilter([1.0], [1.0, -edge], shock)
    return column(returns, bars), column(returns - shock, bars), column(VOLATILITY, bars)


KINDS = {
    "last": Kind("the next return leans on the last one", on_past(np.ones(1))),
    "last_negative": Kind("the next return leans against the last one", on_past(-np.ones(1))),
    "momentum_5": Kind("it leans on the sum of the last 5", on_past(np.ones(5))),
    "momentum_20": Kind("it leans on the sum of the last 20", on_past(np.ones(20))),
    "reversion": Kind("the price reverts to its mean of 20 bars", on_past(-np.geomspace(1, 0.95**199, 200))),
    "season_day": Kind("a wave within the day", on_clock(DAY)),
    "season_week": Kind("a wave within the week", on_clock(WEEK)),
    "lead_lag": Kind("a symbol follows the last return of another", lead_lag, ("LEAD", "LAG")),
    "regime": Kind("the last return continues in wild times and reverts in calm ones", regime),
    "volatility": Kind("a steady drift in a volatility that moves", moving_volatility),
    "hidden": Kind("as `last`, behind 40 useless columns", on_past(np.ones(1)), extension=USELESS),
    "noise": Kind("nothing to find", on_past(np.ones(1))),
    "learning": Kind("the six markets of LEARNING.md", learning),
}
ONE_STRENGTH = {"noise": 0, "learning": 0}  # kinds without strengths
PLANTED = tuple(name for name in KINDS if name not in ONE_STRENGTH)


def strengths_of(kind: str, asked: Sequence[int]) -> list[int]:
    """Return those strengths that a kind has."""
    return [ONE_STRENGTH[kind]] if kind in ONE_STRENGTH else list(asked)


@dataclass(frozen=True, order=True)
class Place:
    """One market of the battery: a kind, a strength and a number."""

    kind: str
    strength: int
    number: int

    @property
    def edge(self) -> float:
        """Return the size of the edge, in standard deviations of a bar."""
        if self.kind == "learning":
            return LEARNING_EDGE
        return EDGES.get(self.kind, {}).get(self.strength, NO_EDGE).edge

    def planted(self, bars: int = BARS, *, fresh: bool = False) -> Planted:
        """Return its bars, or fresh bars of the same process, which share no draw with them."""
        return plant(self.kind, self.edge, bars, self.rng(fresh=fresh))

    def rng(self, *, fresh: bool) -> np.random.Generator:
        """Return the source of its draws; that of kind `learning` is the one of LEARNING.md."""
        if self.kind == "learning" and not fresh:
            return np.random.default_rng(LEARNING_SEED + self.number)
        place = list(KINDS).index(self.kind)
        return np.random.default_rng([place, self.strength, self.number, int(fresh)])


def plant(kind: str, edge: float, bars: int, rng: np.random.Generator) -> Planted:
    """Return a market of a kind with an edge of this size."""
    returns, drift, volatility = KINDS[kind].process(edge, bars, rng)
    wicks = np.abs(rng.normal(0, WICK, (2, *returns.shape))) * volatility / VOLATILITY
    return Planted(returns, drift, volatility, wicks)


def frame_of(planted: Planted, asset: int) -> pd.DataFrame:
    """Return the bars of one asset."""
    close = 100 * np.exp(np.cumsum(planted.returns[:, asset]))
    start = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(start, close) * np.exp(planted.wicks[0, :, asset])
    low = np.minimum(start, close) / np.exp(planted.wicks[1, :, asset])
    stamps = pd.date_range(FIRST, periods=len(close), freq="h", tz="UTC")
    prices = {"timestamp": stamps, "open": start, "high": high, "low": low, "close": close}
    return pd.DataFrame({**prices, "volume": 1000.0})


def write_bars(place: Place, planted: Planted, folder: Path, name: str) -> str:
    """Write the bars of every symbol unless they are there; return their path as `data.path` has it."""
    symbols = KINDS[place.kind].symbols
    path = str(folder / f"{place.kind}_{place.strength}_{place.number}_{name}_{{symbol}}.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    for asset, symbol in enumerate(symbols):
        target = Path(path.format(symbol=symbol))
        if not target.exists():
            with replacing(target) as partial:
                frame_of(planted, asset).to_parquet(partial)
    return path


def words_of(place: Place, path: str) -> list[str]:
    """Return the settings that put a study on this market, with costs of 0.6 bps a side."""
    kind = KINDS[place.kind]
    words = [
        "data=file",
        f'data.path="{path}"',
        f"data.symbols=[{','.join(kind.symbols)}]",
        "data.timeframe=1h",
    ]
    return [*words, "session=crypto", "cost=fx"]
