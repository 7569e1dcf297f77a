"""The stored tables of the discovery benchmark: one file a market, recorded once, in a balanced order."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.discovery_markets import Size, Table, make_bars, record
from optimize.atomic import replacing


@dataclass(frozen=True)
class Market:
    """One market of the benchmark: the size of its edge, its length and its number."""

    edge: float
    bars: int
    number: int

    def path(self, size: Size, folder: Path) -> Path:
        """Return the file of its table."""
        trials = f"{size.points}x{size.seeds}x{size.windows}x{size.steps}"
        return folder / f"{self.edge:g}_{self.bars}_{self.number}_{trials}.npz"


def markets(size: Size) -> Iterator[Market]:
    """Yield all markets, so ordered that a run that is stopped has recorded about as many of each kind."""
    for number in range(size.markets):
        for bars in size.bars:
            for edge in size.edges:
                yield Market(edge, bars, number)


def record_missing(size: Size, folder: Path, workers: int) -> None:
    """Record the tables that are missing, one market after the other, in so many processes."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [each for each in markets(size) if not each.path(size, folder).exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in pool.map(_record, missing, [size] * len(missing), [folder] * len(missing)):
            print(f"recorded {done}", flush=True)


def recorded(size: Size, folder: Path) -> Iterator[tuple[Market, Table]]:
    """Yield every market that has a table, with its table."""
    for each in markets(size):
        if (path := each.path(size, folder)).exists():
            with np.load(path) as stored:
                yield each, Table(**{key: stored[key].astype(np.float64) for key in stored.files})


def _record(market: Market, size: Size, folder: Path) -> str:
    """Record one table, in half precision: its rounding is a thousandth of the noise of a session."""
    path = market.path(size, folder)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "bars.parquet"
        make_bars(market.edge, market.bars, market.number).to_parquet(source)
        table = record(source, size)
    with replacing(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **{key: each.astype(np.float16) for key, each in vars(table).items()})
    return f"{path.name} by process {os.getpid()}"
