"""Scale features and measure buy-and-hold with statistics of the train span only."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.rewards import buy_and_hold_moments
from envs.types import BoolArray, FloatArray, Market
from optimize.atomic import replacing
from optimize.data.features import kind_of
from optimize.errors import BadInputError, NumericError

CLIP = 10.0  # standard deviations
CONSTANT_SHARE = 1e-6  # of a column's largest value; a smaller deviation is float32 rounding
TERCILES = (1 / 3, 2 / 3)
BLOCK = 2048  # bars scaled at a time, so that intermediate arrays stay in the CPU cache


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Statistics of one train span: of each asset's features, and of buy-and-hold."""

    mean: FloatArray  # (A, F), 0 for a category
    std: FloatArray  # (A, F) > 0; 1 for a category, infinite for a constant column (it becomes 0)
    binned: BoolArray  # (F,) columns that are binned to -1, 0 or 1
    edges: FloatArray  # (A, F, 2) lower and upper edge of bin 0; used for binned columns
    hold_moments: FloatArray  # (3,) of the market's buy-and-hold
    feature_names: tuple[str, ...]  # F names, in order

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scaled features (T, A, F): standardised and clipped numbers, categories, and bins."""
        scaled = np.empty(features.shape, np.float32)
        for first in range(0, len(features), BLOCK):
            scaled[first : first + BLOCK] = self._transform(features[first : first + BLOCK])
        return scaled

    def _transform(self, features: NDArray[np.float32]) -> FloatArray:
        scaled = features - self.mean
        scaled /= self.std
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        if self.binned.any():
            values, (low, high) = features[..., self.binned], np.moveaxis(self.edges[:, self.binned], 2, 0)
            scaled[..., self.binned] = (values >= low).astype(np.float64) + (values > high) - 1.0
        return scaled

    def check_names(self, names: Sequence[str], where: str) -> None:
        """Refuse features whose names or order differ from those the scaler was fitted on."""
        if tuple(names) != self.feature_names:
            raise BadInputError(
                f"the features of {where} are {list(names)}, but the scaler was fitted on "
                f"{list(self.feature_names)}: use the feature settings of its training"
            )

    def save(self, path: Path, **more: NDArray[Any]) -> None:
        """Write the scaler, and more arrays beside it, as .npz, replacing an existing file."""
        arrays = {name: getattr(self, name) for name in _array_names()} | more
        with replacing(path) as partial, partial.open("wb") as stream:
            np.savez(stream, feature_names=np.array(self.feature_names), **arrays)


def _array_names() -> list[str]:
    """Return the names of the scaler's arrays, which are stored in its file."""
    return [field.name for field in fields(Scaler) if field.name != "feature_names"]


def fit_scaler(market: Market, first: int, end: int) -> Scaler:
    """Fit a scaler on the rows [first, end) of a market."""
    rows = market.features[first:end].astype(np.float64)
    if not len(rows):
        raise BadInputError(f"a scaler needs at least one train bar, but [{first}, {end}) holds none")
    mean = rows.mean(axis=0)
    if not np.isfinite(mean).all():
        raise NumericError(f"the features of the train bars [{first}, {end}) are not finite")
    kinds = np.array([kind_of(name) for name in market.feature_names])
    category, binned = kinds == "category", kinds == "binned"
    edges = np.zeros((*mean.shape, 2))
    if binned.any():
        edges[:, binned] = np.moveaxis(np.quantile(rows[..., binned], TERCILES, axis=0), 0, 2)
    largest = np.maximum(rows.max(axis=0), -rows.min(axis=0))
    rows -= mean  # rows.std() in place, which saves two copies of the array
    rows *= rows
    std = np.sqrt(rows.sum(axis=0) / len(rows))
    std = np.where(std <= CONSTANT_SHARE * largest, np.inf, std)
    return Scaler(
        mean=np.where(category, 0.0, mean),
        std=np.where(category, 1.0, std),
        binned=binned,
        edges=edges,
        hold_moments=buy_and_hold_moments(market, first, end - 1),
        feature_names=market.feature_names,
    )


def load_scaler(path: Path, feature_names: Sequence[str] | None = None) -> Scaler:
    """Read a saved scaler; refuse it if it was fitted on other features than feature_names."""
    scaler, _ = load_scaler_and_more(path)
    if feature_names is not None:
        scaler.check_names(feature_names, f"the market for {path}")
    return scaler


def load_scaler_and_more(path: Path) -> tuple[Scaler, dict[str, NDArray[Any]]]:
    """Read a saved scaler and the arrays that were stored beside it."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
            names = tuple(str(name) for name in arrays.pop("feature_names"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path} is not a saved scaler ({error}): export the model again") from error
    if lacking := [name for name in _array_names() if name not in arrays]:
        raise BadInputError(
            f"{path} is the scaler of an older version, without {', '.join(lacking)}: train the model again"
        )
    return Scaler(**{name: arrays.pop(name) for name in _array_names()}, feature_names=names), arrays


def scale_market(market: Market, scaler: Scaler, first: int, end: int) -> Market:
    """Return the market with scaled features and the buy-and-hold moments of the train span.

    The features of rows [first, end) are scaled; all others are NaN, so that using them would show.
    """
    scaler.check_names(market.feature_names, "the market")
    features = np.empty_like(market.features)
    features[:first], features[end:] = np.nan, np.nan
    features[first:end] = scaler.transform(market.features[first:end])
    return replace(market, features=features, hold_moments=scaler.hold_moments)
