"""Synthetic markets with a known best strategy, generated from a seed."""

from collections.abc import Callable

import numpy as np

from envs.types import FloatArray
from optimize.data.bars import RawBars
from optimize.data.spec import SYNTHETIC_SYMBOL, DataSpec, SyntheticSpec
from optimize.data.timeframes import timeframe_ns

START_NS = int(np.datetime64("2022-01-01T00:00:00", "ns").astype(np.int64))  # a Saturday: plainly 24/7
DEFAULT_TIMEFRAME = "1h"
FIRST_PRICE = 100.0
WAVE_NOISE = 0.1  # noise of the known optimum, as a share of its move
ECHO = 2.0  # move of the known timeframe, in standard deviations of one bar


def make_synthetic(spec: DataSpec) -> list[RawBars]:
    """Generate the bars of each symbol, 24/7; the same seed gives the same bars."""
    timeframe = spec.source_timeframe or DEFAULT_TIMEFRAME
    made = spec.synthetic
    timestamp = START_NS + np.arange(made.bars, dtype=np.int64) * timeframe_ns(timeframe)
    symbols = spec.symbols or [SYNTHETIC_SYMBOL]
    seeds = np.random.SeedSequence(made.seed).spawn(len(symbols))
    spread = np.zeros(made.bars)
    return [
        RawBars(
            symbol,
            f"synthetic {symbol}",
            timestamp,
            _ohlcv(made, np.random.default_rng(seed)),
            spread,
            timeframe,
        )
        for symbol, seed in zip(symbols, seeds, strict=True)
    ]


def _ohlcv(made: SyntheticSpec, rng: np.random.Generator) -> FloatArray:
    """Return OHLCV (T, 5); each bar opens at the previous close."""
    log_return = MAKERS[made.kind](made, rng)
    close = FIRST_PRICE * np.exp(np.cumsum(log_return))
    open_ = np.concatenate([[FIRST_PRICE], close[:-1]])
    wick = np.exp(np.abs(rng.normal(0.0, made.volatility / 2, size=(2, made.bars))))
    high = np.maximum(open_, close) * wick[0]
    low = np.minimum(open_, close) / wick[1]
    volume = rng.lognormal(0.0, 0.5, size=made.bars)
    return np.stack([open_, high, low, close, volume], axis=1)


def _random_walk(made: SyntheticSpec, rng: np.random.Generator) -> FloatArray:
    """Return log returns of a price that is a martingale: its simple returns have mean zero."""
    return rng.normal(-(made.volatility**2) / 2, made.volatility, size=made.bars)


def _wave(made: SyntheticSpec, rng: np.random.Generator) -> FloatArray:
    """Return half a period of rises, then of falls: long, then short earns about `volatility` per bar."""
    rising = np.arange(made.bars) % made.period < made.period // 2
    noise = rng.normal(0.0, WAVE_NOISE * made.volatility, size=made.bars)
    return np.where(rising, made.volatility, -made.volatility) + noise


def _echo(made: SyntheticSpec, rng: np.random.Generator) -> FloatArray:
    """Return noise in which every period ends with a move in the direction of the whole previous period.

    At a timeframe of one period the last bar shows the direction: following it earns about ECHO * volatility
    per period. The move is independent of the last period - 1 source bars before it, so a shorter lookback
    predicts nothing. Coarser bars mix the direction with the move that followed it.
    """
    log_return = rng.normal(0.0, made.volatility, size=made.bars)
    last = made.period - 1
    for start in range(made.period, made.bars - last, made.period):
        before = np.sum(log_return[start - made.period : start])
        log_return[start + last] += np.copysign(ECHO * made.volatility, before)
    return log_return


def _planted_edge(made: SyntheticSpec, rng: np.random.Generator) -> FloatArray:
    """Return noise with a weak drift: up in the first half of each period, down in the second.

    Long, then short earns about `edge` * `volatility` per bar before costs: on 1h bars, with a period of a
    day, a Sharpe ratio of edge * sqrt(365 * 24). Each day begins at 00:00 UTC.
    """
    rising = np.arange(made.bars) % made.period < made.period // 2
    return _random_walk(made, rng) + np.where(rising, 1.0, -1.0) * made.edge * made.volatility


MAKERS: dict[str, Callable[[SyntheticSpec, np.random.Generator], FloatArray]] = {
    "random_walk": _random_walk,
    "known_optimum": _wave,
    "known_timeframe": _echo,
    "planted_edge": _planted_edge,
}
