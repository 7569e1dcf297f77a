"""What the agent of one window observes of the market: the chosen columns, scaled over its train span."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from envs.types import Market
from optimize.data.features import columns_in_groups
from optimize.data.features.spec import FeatureSpec
from optimize.data.scaling import Scaler, fit_scaler, load_scaler, scale_market
from optimize.errors import BadInputError


@dataclass(frozen=True, slots=True, eq=False)
class Representation:
    """The fitted columns of one window: all that is between the market and the agent's observation."""

    scaler: Scaler  # of the columns in the groups of feature.groups, in order

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the agent observes of each bar, in order."""
        return self.scaler.feature_names

    def observe(self, market: Market, first: int, end: int) -> Market:
        """Return the market with the observed columns of rows [first, end); all other rows are NaN."""
        return scale_market(with_columns(market, self.scaler.feature_names), self.scaler, first, end)

    def check_columns(self, feature: FeatureSpec, names: Sequence[str], where: str) -> None:
        """Refuse a market whose columns differ from those of the fit, or have another order."""
        self.scaler.check_names(columns_in_groups(feature, names), where)

    def save(self, path: Path) -> None:
        """Write the fit as .npz, replacing an existing file."""
        self.scaler.save(path)


def fit_representation(market: Market, first: int, last: int, feature: FeatureSpec) -> Representation:
    """Fit the representation on the bars [first, last] of a purged train span."""
    chosen = with_columns(market, columns_in_groups(feature, market.feature_names))
    return Representation(fit_scaler(chosen, first, last + 1))


def read_representation(path: Path) -> Representation:
    """Read a saved fit."""
    return Representation(load_scaler(path))


def load_representation(path: Path, feature: FeatureSpec, names: Sequence[str]) -> Representation:
    """Read a saved fit; refuse it if a market with these columns does not have those of the fit."""
    found = read_representation(path)
    found.check_columns(feature, names, f"the market for {path}")
    return found


def with_columns(market: Market, names: Sequence[str]) -> Market:
    """Return the market with these columns alone, in this order."""
    if tuple(names) == market.feature_names:
        return market
    place = {name: index for index, name in enumerate(market.feature_names)}
    if missing := [name for name in names if name not in place]:
        raise BadInputError(
            f"the market has no column {', '.join(missing)}, which the model was trained on: use the feature "
            "settings of its training"
        )
    features = np.ascontiguousarray(market.features[..., [place[name] for name in names]])
    return replace(market, features=features, feature_names=tuple(names))
