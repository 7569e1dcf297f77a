"""The decisions of a train span from which selection and forecasters learn."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray, Market
from optimize.errors import BadInputError
from optimize.evaluate.probe import known_decisions, observed_columns
from optimize.evaluate.probe.ridge import FOLDS, LinearFit, affordable_lookback, enough_rows, fit_folds


@dataclass(frozen=True, eq=False)
class Examples:
    """The decisions of a purged train span whose return is known within it."""

    market: Market  # scaled
    bars: IntArray  # (n,) rising, at whose close each decision is made
    labels: FloatArray  # (n, A) its log return, 0 for an asset in which nothing opens
    lookback: int
    horizon: int  # bars from the fill to the end of a return

    def observed(self, places: IntArray) -> NDArray[np.float32]:
        """Return what was observed at some of the bars: (n, L, A, F), oldest first."""
        flat = observed_columns(self.market, self.bars[places], self.lookback)
        return flat.reshape(len(places), self.lookback, *self.market.features.shape[1:])

    @functools.cached_property
    def folds(self) -> list[IntArray]:
        """Return the places of the bars in each of the contiguous folds."""
        return np.array_split(np.arange(len(self.bars)), FOLDS)

    def outside(self, fold: IntArray) -> IntArray:
        """Return the places of the bars whose labels and observations overlap no label of a fold."""
        gap = self.lookback + self.horizon
        first, last = self.bars[fold[0]] - gap, self.bars[fold[-1]] + gap
        return np.flatnonzero((self.bars < first) | (self.bars > last))

    @functools.cached_property
    def linear(self) -> tuple[LinearFit, tuple[LinearFit, ...]]:
        """Return the ridge regression of all bars, and those without each fold and its surroundings."""
        labels = self.labels[:, :, None]
        found = fit_folds(self.market, self.bars, labels, self.lookback, (self.horizon,))
        return found.whole, found.without


def find_examples(
    market: Market, first: int, last: int, *, lookback: int, horizon: int, at_open: bool
) -> Examples:
    """Return the examples of a purged train span [first, last] of the scaled market; refuse too few."""
    lookback = affordable_lookback(market, lookback)
    known = known_decisions(market, first, last, at_open=at_open, horizons=(horizon,))
    if not enough_rows(len(known.bars), lookback + horizon):
        raise BadInputError(
            f"feature.select and feature.forecast: the train span of {last - first + 1} bars at "
            f"data.timeframe={market.timeframe} holds {len(known.bars)} decisions with a known "
            "return, too few to fit a forecast: use a longer span of data (data.months), a finer "
            "data.timeframe, a smaller window.count, feature.lookback or feature.horizon, or leave both out"
        )
    return Examples(market, known.bars, known.labels[:, :, 0], lookback, horizon)
