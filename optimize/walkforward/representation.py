"""What the agent of one window observes of the market: chosen columns, scaled, and a forecast of them.

All of it is fitted on the purged train span of the window, and stored with its agent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.types import Market
from optimize.data.features import columns_in_groups
from optimize.data.features.spec import FeatureSpec
from optimize.data.scaling import Scaler, fit_scaler, load_scaler_and_more, scale_market
from optimize.errors import BadInputError
from optimize.walkforward.examples import Examples, find_examples
from optimize.walkforward.forecast import WindowForecast, fit_forecast, forecast_of
from optimize.walkforward.forecasters import NO_FORECAST

SHOWN = "shown"  # name of the array of the shown columns in the file of a representation


@dataclass(frozen=True, slots=True, eq=False)
class Representation:
    """The fit of one window: all that is between the market and the agent's observation."""

    scaler: Scaler  # of the columns in the groups of feature.groups, in order
    shown: tuple[str, ...]  # those of them that the agent observes, in order
    forecast: WindowForecast | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the agent observes of each bar, in order."""
        return self.shown if self.forecast is None else (*self.shown, self.forecast.column)

    def observe(self, market: Market, first: int, end: int) -> Market:
        """Return the market with the observed columns of rows [first, end); all other rows are NaN.

        The forecast of the first rows, before which its lookback begins, is NaN too.
        """
        scaled = scale_market(with_columns(market, self.scaler.feature_names), self.scaler, first, end)
        shown = with_columns(scaled, self.shown)
        if self.forecast is None:
            return shown
        features = np.full((*shown.features.shape[:2], len(self.columns)), np.nan, np.float32)
        features[first:end, :, :-1] = shown.features[first:end]
        features[first:end, :, -1] = self.forecast.forecast(scaled, first, end)
        return replace(shown, features=features, feature_names=self.columns)

    def check_columns(self, feature: FeatureSpec, names: Sequence[str], where: str) -> None:
        """Refuse a market whose columns differ from those of the fit, or have another order."""
        self.scaler.check_names(columns_in_groups(feature, names), where)

    def save(self, path: Path) -> None:
        """Write the fit as .npz, replacing an existing file; without choice and forecast, a scaler alone."""
        more: dict[str, NDArray[Any]] = {} if self.forecast is None else self.forecast.arrays()
        if self.shown != self.scaler.feature_names:
            more[SHOWN] = np.array(self.shown, dtype=np.str_)
        self.scaler.save(path, **more)


def fit_representation(
    market: Market, first: int, last: int, feature: FeatureSpec, *, at_open: bool
) -> Representation:
    """Fit the representation on the bars [first, last] of a purged train span; orders fill at_open or not."""
    chosen = with_columns(market, columns_in_groups(feature, market.feature_names))
    scaler = fit_scaler(chosen, first, last + 1)
    if not feature.select and feature.forecast == NO_FORECAST:
        return Representation(scaler, scaler.feature_names)
    scaled = scale_market(chosen, scaler, max(0, first - feature.lookback + 1), last + 1)
    examples = find_examples(
        scaled, first, last, lookback=feature.lookback, horizon=feature.horizon, at_open=at_open
    )
    if feature.forecast == NO_FORECAST:
        return Representation(scaler, best_columns(examples, feature.select))
    forecast = fit_forecast(feature.forecast, examples, last)
    if feature.forecast_alone:
        return Representation(scaler, (), forecast)
    shown = best_columns(examples, feature.select) if feature.select else scaler.feature_names
    return Representation(scaler, shown, forecast)


def best_columns(examples: Examples, count: int) -> tuple[str, ...]:
    """Return the columns that move the ridge regression's forecast most, in the order of the market.

    A column counts with all its lags and assets: the root of the sum of its squared weights, each times the
    standard deviation of the column and over that of the label.
    """
    market, fit = examples.market, examples.linear[0]
    names = market.feature_names
    weights = fit.weights[:, :, 0].reshape(examples.lookback, *market.features.shape[1:], market.n_assets)
    spread = market.features[examples.bars].std(axis=0, dtype=np.float64)  # (A, F)
    sizes = examples.labels.std(axis=0)
    moved = weights * spread[None, :, :, None] / np.where(sizes > 0, sizes, np.inf)
    strength = np.sqrt(np.square(moved).sum(axis=(0, 1, 3)))
    best = np.argsort(-strength, kind="stable")[:count]
    return tuple(names[place] for place in sorted(best.tolist()))


def read_representation(path: Path) -> Representation:
    """Read a saved fit."""
    scaler, more = load_scaler_and_more(path)
    shown = tuple(map(str, more[SHOWN])) if SHOWN in more else scaler.feature_names
    return Representation(scaler, shown, forecast_of(more))


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
