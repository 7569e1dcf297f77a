"""The forecast of a window as a column: out of fold within the train span, of the whole fit after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray, Market
from optimize.data.scaling import CLIP
from optimize.evaluate.probe import observed_columns
from optimize.evaluate.probe.ridge import ROWS_AT_ONCE
from optimize.walkforward.examples import Examples
from optimize.walkforward.forecasters import ForecastFit, find_forecaster

PREFIX = "forecast_"  # of the names of its arrays in the file of a representation
# Deviation of the forecasts, as a share of that of the labels, which the column shows as 1: good forecasts of
# single bars explain a thousandth of their variance, and one that explains less shows smaller numbers.
UNIT = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class WindowForecast:
    """The fits of one window; a bar of the train span is forecast by a fit that has not seen its fold."""

    name: str  # of the forecaster
    lookback: int
    fits: tuple[ForecastFit, ...]  # K, without each fold in turn, and the last of all bars
    until: IntArray  # (K - 1,) UTC nanoseconds: each fit forecasts the bars before, the last one the others
    scale: FloatArray  # (A,) log return by which the forecasts are divided

    @property
    def column(self) -> str:
        """Return the name of its column."""
        return f"{PREFIX}{self.name}"

    def forecast(self, market: Market, first: int, end: int) -> NDArray[np.float32]:
        """Return the column (end - first, A) of rows [first, end) of the scaled market.

        The first rows, whose lookback begins before `first`, are NaN.
        """
        found = np.full((end - first, market.n_assets), np.nan, np.float32)
        bars = np.arange(min(first + self.lookback - 1, end), end)
        scale = np.where(self.scale > 0, self.scale, np.inf)
        found[bars - first] = np.clip(self.returns(market, bars) / scale, -CLIP, CLIP)
        return found

    def returns(self, market: Market, bars: IntArray) -> FloatArray:
        """Return the forecast log returns (n, A) of the decisions at rising bars (n,)."""
        found = np.empty((len(bars), market.n_assets))
        fits = np.searchsorted(self.until, market.timestamp[bars], side="right")
        for place in np.unique(fits):
            own = np.flatnonzero(fits == place)
            for part in np.array_split(own, -(-len(own) // ROWS_AT_ONCE)):
                flat = observed_columns(market, bars[part], self.lookback)
                observed = flat.reshape(len(part), self.lookback, *market.features.shape[1:])
                found[part] = self.fits[place].forecast(observed)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of its file."""
        own: dict[str, NDArray[Any]] = {
            "name": np.array(self.name),
            "lookback": np.array(self.lookback),
            "until": self.until,
            "scale": self.scale,
        }
        for place, fit in enumerate(self.fits):
            own |= {f"{place}_{name}": array for name, array in fit.arrays().items()}
        return {f"{PREFIX}{name}": array for name, array in own.items()}


def fit_forecast(name: str, examples: Examples, last: int) -> WindowForecast:
    """Fit a forecaster on the examples of a train span, whose last bar is `last`.

    The last fold ends with the train span: its bars without a label are forecast out of fold as well.
    """
    market = examples.market
    fits = find_forecaster(name).fit_folds(examples)
    begins = [int(market.timestamp[examples.bars[fold[0]]]) for fold in examples.folds[1:]]
    until = np.array([*begins, int(market.timestamp[last]) + 1], np.int64)
    return WindowForecast(name, examples.lookback, tuple(fits), until, UNIT * examples.labels.std(axis=0))


def forecast_of(arrays: Mapping[str, NDArray[Any]]) -> WindowForecast | None:
    """Return the forecast that the arrays of a file hold, None where they hold none."""
    own = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
    if not own:
        return None
    name, until = str(own["name"]), own["until"]
    load = find_forecaster(name).load
    fits = []
    for place in range(len(until) + 1):
        start = f"{place}_"
        fits.append(load({key.removeprefix(start): own[key] for key in own if key.startswith(start)}))
    return WindowForecast(name, int(own["lookback"]), tuple(fits), until, own["scale"])
