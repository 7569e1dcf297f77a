"""Markets on which every feature must be causal and reproducible from a tail."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from optimize.data.bars import Bars
from optimize.data.features import FEATURES
from optimize.data.market import load_bars
from optimize.data.sessions import SessionTable
from optimize.data.spec import DataSpec
from tests.optimize.data.samples import random_walk, rows_of, stamp, table_of, with_spread


@dataclass(frozen=True)
class World:
    """Bars in the sessions of a calendar."""

    bars: Bars
    table: SessionTable


def storm() -> Bars:
    """Return a walk that turns calm after a storm."""
    wild, calm = random_walk(1500, seed=3, volatility=0.2), random_walk(1500, seed=4, volatility=0.0005)
    scale = wild.close[699] / calm.close[699]
    mixed: dict[str, Any] = {
        name: np.concatenate([getattr(wild, name)[:700], scale * getattr(calm, name)[700:]])
        for name in ("open", "high", "low", "close")
    }
    return replace(wild, **mixed)


def volume_gone() -> Bars:
    """Return a walk whose volume is huge at first, then tiny, then absent for 150 bars."""
    bars = random_walk(1500, seed=5)
    size = np.select([np.arange(1500) < 500, np.arange(1500) < 800], [1e9, 1e-3], 1.0)[:, None]
    size[800:950] = 0.0
    return replace(bars, volume=bars.volume * size)


@dataclass(frozen=True)
class Source:
    """Where the bars of a world come from, its calendar and which needs of a feature it cannot serve."""

    load: Callable[[Path], Bars]  # from the folder of market data, if that is where they are
    calendar: str
    lacks: tuple[str, ...] = ()


def part_of(name: str, start: str) -> Callable[[Path], Bars]:
    """Return a loader of the hard part of a file of real bars."""

    def load(folder: Path) -> Bars:
        path = folder / f"{name}.parquet"
        bars = load_bars(DataSpec(provider="file", path=str(path), drop_nan=True))
        row = int(np.searchsorted(bars.timestamp, stamp(start)))
        return rows_of(bars, slice(row, row + 1700))

    return load


SOURCES = {
    "calm": Source(lambda _: random_walk(1500), "24/7", ("closing_time",)),
    "after_a_storm": Source(lambda _: storm(), "24/7", ("closing_time",)),
    "volume_gone": Source(lambda _: volume_gone(), "24/7", ("closing_time",)),
    "embedded": Source(lambda _: rows_of(load_bars(DataSpec()), slice(1200, 2900)), "24/5"),
    "btc_outage": Source(part_of("btcusdt_1h_binance_2017_2024", "2018-01-01"), "24/7", ("closing_time",)),
    "btc_silent_bars": Source(
        part_of("btcusd_1h_coinbase_2017_2019", "2017-07-01"), "24/7", ("closing_time",)
    ),
    "fx_winter_time": Source(part_of("eurusd_1h_oanda_mid_2007_2018", "2014-09-20"), "24/5", ("volume",)),
    "spy_half_day": Source(part_of("spy_1m_yahoo_201912", "2019-12-20"), "XNYS"),
    "aapl_split": Source(part_of("daily_aapl_bokeh_2000_2013", "2003-01-01"), "XNYS", ("intraday",)),
}
MADE = ("calm", "after_a_storm", "volume_gone", "embedded")
REAL = tuple(name for name in SOURCES if name not in MADE)


@cache
def world(name: str, folder: Path | None = None) -> World:
    """Return a world, with a spread, which no source has; only those in REAL need the folder."""
    source = SOURCES[name]
    bars = with_spread(source.load(folder or Path()))
    return World(bars, table_of(bars, source.calendar))


def pairs(worlds: Iterable[str]) -> list[tuple[str, str]]:
    """Return every feature with each of the worlds that can serve it."""
    return [
        (feature, name)
        for name in worlds
        for feature, registered in FEATURES.items()
        if not set(SOURCES[name].lacks) & set(registered.needs)
    ]
