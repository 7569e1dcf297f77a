"""Which features there are: their columns, how they are computed, what they need and when they settle."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.data.spec import TIMEFRAME
from optimize.extensions import extendable
from optimize.hashing import hash_object
from optimize.source_code import DIGITS, file_digest

Need = Literal["volume", "spread", "closing_time", "intraday"]
Kind = Literal["numeric", "level", "category", "binned"]
PCT = "{pct}"  # in the name of a column: there is one for each of feature.zigzag_pct


@dataclass(frozen=True, slots=True, eq=False)
class AssetBars:
    """The bars of one asset, the session in which each ends, and the reversals to look for."""

    bar_end: IntArray  # (T,) UTC nanoseconds
    session_date: NDArray[np.datetime64]  # (T,) datetime64[D]
    session_close: IntArray  # (T,) UTC nanoseconds
    open: FloatArray  # (T,)
    high: FloatArray  # (T,)
    low: FloatArray  # (T,)
    close: FloatArray  # (T,)
    volume: FloatArray  # (T,)
    spread: FloatArray  # (T,) in units of the price
    zigzag_pct: tuple[float, ...]  # (P,) reversals that confirm a pivot, in percent


Compute = Callable[[AssetBars], list[FloatArray]]


@dataclass(frozen=True)
class Feature:
    """A registered feature: its columns, how to compute them and the bars before they settle."""

    columns: tuple[str, ...]
    warmup: int  # rows before the first that may be used
    compute: Compute
    needs: tuple[Need, ...]  # of the data
    kind: Kind  # what the scaler does: standardise it (level: it has a unit), pass it on, or bin it
    clock: bool  # whether it reads nothing but the time, which is the same on every timeframe


FEATURES: dict[str, Feature] = extendable({})


def feature(
    name: str,
    *columns: str,
    warmup: int,
    needs: tuple[Need, ...] = (),
    kind: Kind = "numeric",
    clock: bool = False,
) -> Callable[[Compute], Compute]:
    """Register a function that returns one array (T,) a column; {pct} columns in turn for each percentage."""

    def register(compute: Compute) -> Compute:
        FEATURES[name] = Feature(columns or (name,), warmup, compute, needs, kind, clock)
        return compute

    return register


def columns_of(name: str, zigzag_pct: Sequence[float]) -> tuple[str, ...]:
    """Return the names of a feature's columns, in order."""
    columns = FEATURES[name].columns
    if PCT not in columns[0]:
        return columns
    return tuple(column.replace(PCT, f"{pct:g}") for pct in zigzag_pct for column in columns)


def reads_volume(names: Iterable[str]) -> bool:
    """Return whether any of the features needs volume; other names are passed over."""
    return any("volume" in FEATURES[name].needs for name in names if name in FEATURES)


def foreign_code(names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each file that defines some of these features and is none of Walkforge's own.

    A function without a file, as of a notebook, counts by its byte code.
    """
    found = {}
    for name in names:
        compute = FEATURES[name].compute if name in FEATURES else None
        home = getattr(compute, "__module__", "") or ""
        if compute is None or home.startswith("optimize."):
            continue
        path = Path(getattr(sys.modules.get(home), "__file__", None) or "")
        if path.is_file():
            found[path.name.replace(" ", "_")] = file_digest(path)
        else:
            code = getattr(compute, "__code__", None)
            found[name] = hash_object(code.co_code.hex() + repr(code.co_names) if code else name)[:DIGITS]
    return found


def kind_of(column: str) -> Kind:
    """Return the kind of a column, of a higher timeframe too; one that is not registered is numeric."""
    stem, _, timeframe = column.rpartition("_")
    base = stem if TIMEFRAME.fullmatch(timeframe) else column
    kinds = {name: feature.kind for feature in FEATURES.values() for name in feature.columns}
    return kinds.get(base, "numeric")
