"""Standardise features with what the train span alone knows."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, Market
from optimize.errors import BadInputError, NumericError

CLIP = 10.0  # standard deviations
FLOOR = 1e-6  # of a column's size; one that varies less is constant, up to float32 rounding


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Mean and standard deviation of each asset's features over one train span."""

    mean: FloatArray  # (A, F)
    std: FloatArray  # (A, F) > 0, infinite for a constant column, which so becomes 0
    feature_names: tuple[str, ...]  # F names, in order

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., A, F) standardised, clipped to +-10."""
        scaled = (features - self.mean) / self.std
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)

    def check_names(self, names: Sequence[str], where: str) -> None:
        """Refuse features other than those, in that order, that the scaler was fitted on."""
        if tuple(names) != self.feature_names:
            raise BadInputError(
                f"the features of {where} are {list(names)}, but the scaler was fitted on "
                f"{list(self.feature_names)}: use the feature.indicators of its training"
            )

    def save(self, path: Path) -> None:
        """Write the scaler as .npz, aside and then in place."""
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        with aside.open("wb") as stream:
            np.savez(stream, mean=self.mean, std=self.std, feature_names=np.array(self.feature_names))
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)


def fit_scaler(features: NDArray[np.float32], first: int, end: int, feature_names: Sequence[str]) -> Scaler:
    """Fit on rows [first, end) of features (T, A, F)."""
    rows = features[first:end].astype(np.float64)
    if not len(rows):
        raise BadInputError(f"a scaler needs at least one train bar, but [{first}, {end}) holds none")
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    if not np.isfinite(mean).all():
        raise NumericError(f"the features of the train bars [{first}, {end}) are not finite")
    constant = std <= FLOOR * np.abs(rows).max(axis=0)
    return Scaler(mean, np.where(constant, np.inf, std), tuple(feature_names))


def load_scaler(path: Path, feature_names: Sequence[str] | None = None) -> Scaler:
    """Read a saved scaler; raise where it was fitted on other features than feature_names."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = tuple(str(name) for name in stored["feature_names"])
            scaler = Scaler(stored["mean"], stored["std"], names)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path} is no saved scaler ({error}): export the model again") from error
    if feature_names is not None:
        scaler.check_names(feature_names, f"the market for {path}")
    return scaler


def scale_market(market: Market, scaler: Scaler, first: int, end: int) -> Market:
    """Return the market with rows [first, end) of its features scaled; the others are NaN, never used."""
    scaler.check_names(market.feature_names, "the market")
    features = np.full_like(market.features, np.nan)
    features[first:end] = scaler.transform(market.features[first:end])
    return replace(market, features=features)
