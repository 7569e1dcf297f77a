"""Small bars made for the tests of the data layer."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from envs.types import BoolArray, IntArray
from optimize.data.bars import Bars, RawBars, make_bars
from optimize.data.features import compute_features
from optimize.data.features.compute import ComputedFeatures
from optimize.data.features.spec import FeatureSpec
from optimize.data.quality.rows import checked_bars
from optimize.data.sessions import SessionTable, session_table
from optimize.data.sources.providers import provider_of
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.data.timeframes import timeframe_ns


def stamp(text: str) -> int:
    """Return UTC nanoseconds of an ISO text."""
    return int(np.datetime64(text, "ns").astype(np.int64))


def stamps(first: str, count: int, timeframe: str) -> IntArray:
    """Return evenly spaced starts."""
    return stamp(first) + np.arange(count, dtype=np.int64) * timeframe_ns(timeframe)


def bars_at(timestamp: IntArray, timeframe: str, seed: int = 0, symbol: str = "X") -> Bars:
    """Return valid random bars at given starts."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.003, len(timestamp))))
    open_ = close * np.exp(rng.normal(0, 0.001, len(timestamp)))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    volume = rng.lognormal(size=len(timestamp))
    ohlcv = np.stack([open_, high, low, close, volume], axis=1)
    return make_bars(RawBars(symbol, "test", timestamp, ohlcv, np.zeros(len(timestamp)), timeframe))


def random_walk(bars: int, seed: int = 0, **settings: object) -> Bars:
    """Return synthetic bars."""
    spec = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=bars, seed=seed, **settings))  # type: ignore[arg-type]  # settings are passed through
    return checked_bars(provider_of(spec).read(spec), spec)


def rows_of(bars: Bars, chosen: slice | BoolArray) -> Bars:
    """Return some rows of bars."""
    arrays = {
        f.name: getattr(bars, f.name)[chosen] for f in fields(bars) if f.name not in ("symbols", "timeframe")
    }
    return replace(bars, **arrays)


def with_spread(bars: Bars, seed: int = 0) -> Bars:
    """Return bars with a spread of some basis points."""
    width = np.random.default_rng(seed).uniform(1e-5, 2e-4, bars.close.shape)
    return replace(bars, spread=width * bars.close)


def table_of(bars: Bars, calendar: str) -> SessionTable:
    """Return the sessions of a calendar around bars."""
    return session_table(calendar, int(bars.bar_end[0]), int(bars.bar_end[-1]))


def features_of(
    bars: Bars, names: Sequence[str], table: SessionTable | str = "24/7", higher: Sequence[str] = ()
) -> ComputedFeatures:
    """Return the named features of bars in the sessions of a table or a calendar."""
    table = table_of(bars, table) if isinstance(table, str) else table
    return compute_features(bars, FeatureSpec(indicators=list(names), higher_timeframes=list(higher)), table)
