"""Gradient boosting (LightGBM with its defaults) on the inputs of the probe, traded by the rule of the probe.

It is a contestant where LightGBM is installed. The rule chooses horizon and band by forecasts out of fold,
which come from five contiguous folds here too.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray, Market
from optimize.evaluate.probe import Probe, fit_probe, observed_columns, trade
from optimize.evaluate.probe.ridge import FOLDS
from optimize.study.spec import StudySpec

INSTALLED = importlib.util.find_spec("lightgbm") is not None


@dataclass(frozen=True, eq=False)
class Boosted:
    """Boosted forecasts of the labels of every asset and horizon."""

    models: tuple[tuple[Any, ...], ...]  # [asset][horizon]

    def forecast(self, observed: NDArray[np.float32]) -> FloatArray:
        """Return the forecasts (n, A, H) of observations (n, D)."""
        found = [[model.predict(observed) for model in row] for row in self.models]
        return np.asarray(np.moveaxis(np.array(found), 2, 0))


def fit_boosted(observed: NDArray[np.float32], labels: FloatArray) -> Boosted:
    """Fit the labels (n, A, H) of observations (n, D)."""
    from lightgbm import LGBMRegressor  # an optional contestant

    def fit(label: FloatArray) -> Any:
        return LGBMRegressor(n_jobs=1, verbose=-1, random_state=0).fit(observed, label)

    assets, horizons = labels.shape[1:]
    return Boosted(tuple(tuple(fit(labels[:, a, h]) for h in range(horizons)) for a in range(assets)))


def boosted_out_of_fold(
    market: Market, bars: IntArray, labels: FloatArray, lookback: int, horizons: Sequence[int]
) -> tuple[Boosted, FloatArray]:
    """Return the fit of all rows, and the forecast (n, A, H) of each from the folds apart from its own."""
    observed = observed_columns(market, bars, lookback)
    forecasts, gap = np.empty(labels.shape), max(horizons) + lookback
    for fold in np.array_split(np.arange(len(bars)), FOLDS):
        apart = (bars < bars[fold[0]] - gap) | (bars > bars[fold[-1]] + gap)
        forecasts[fold] = fit_boosted(observed[apart], labels[apart]).forecast(observed[fold])
    return fit_boosted(observed, labels), forecasts


def fit_boosting(market: Market, train: tuple[int, int], spec: StudySpec) -> Probe | None:
    """Fit as the probe is fitted, with gradient boosting in place of the ridge regression."""
    with patch.object(trade, "out_of_fold", boosted_out_of_fold):
        return fit_probe(market, train, env=spec.env, cost=spec.cost, lookback=spec.feature.lookback)
