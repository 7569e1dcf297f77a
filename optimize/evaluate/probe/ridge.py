"""Adaptive ridge regression in closed form on the observed features, with out-of-fold forecasts.

The penalty of a column is divided by the fourth power of its correlation with the label, relative to the
largest: few of many columns carry an edge, and equal penalties would shrink these as much as the noise
(the weights of the adaptive lasso, Zou 2006, in a regression that stays in closed form). The normal
equations of the whole train span, less those of one fold and its surroundings, give the fit without that
fold, so that all folds cost little more than one fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray, Market
from optimize.errors import NumericError

PENALTIES = tuple(10.0 ** np.arange(-4, 3))  # times the number of rows, for standardised columns
FOLDS = 5  # contiguous parts of the train span
LEAST_ROWS = 30  # decisions that are left to fit without one fold and its surroundings
LEAST_SCALE = 1e-6  # of a column without any correlation
MOST_COLUMNS = 512  # of wider inputs the newest bars are used, as the cost grows with the cube
ROWS_AT_ONCE = 4096  # rows read at a time, so that wide inputs do not fill the memory


Solution = tuple[FloatArray, FloatArray]  # weights (D, V) and intercept (V,)


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Linear forecasts of the labels of every asset and horizon, each with its own penalty."""

    weights: FloatArray  # (D, A, H)
    intercept: FloatArray  # (A, H)
    penalty: FloatArray  # (H,) times the number of rows

    def forecast(self, observed: NDArray[np.float32]) -> FloatArray:
        """Return the forecasts (n, A, H) of observations (n, D)."""
        flat = self.weights.reshape(len(self.weights), -1)
        return (observed @ flat).reshape(len(observed), *self.intercept.shape) + self.intercept


def observed_columns(market: Market, bars: IntArray, lookback: int) -> NDArray[np.float32]:
    """Return the features that an agent observes (n, D) at bars (n,), D = lookback x A x F, oldest first."""
    steps = np.arange(1 - lookback, 1)
    return np.ascontiguousarray(market.features[bars[:, None] + steps].reshape(len(bars), -1))


@dataclass(frozen=True, eq=False)
class FoldedFit:
    """The fit of all rows, one without each fold and its surroundings, and the forecasts out of fold."""

    whole: LinearFit
    without: tuple[LinearFit, ...]
    forecasts: FloatArray  # (n, A, H), of each row by the fit without its fold


def affordable_lookback(market: Market, lookback: int) -> int:
    """Return the lookback, or the longest one that does not exceed MOST_COLUMNS inputs."""
    return min(lookback, max(1, MOST_COLUMNS // (market.n_assets * len(market.feature_names))))


def enough_rows(count: int, gap: int) -> bool:
    """Return whether enough of the rows are left to fit without one fold and `gap` bars on either side."""
    return count * (1 - 1 / FOLDS) - 2 * gap >= LEAST_ROWS


def out_of_fold(
    market: Market, bars: IntArray, labels: FloatArray, lookback: int, horizons: Sequence[int]
) -> tuple[LinearFit, FloatArray]:
    """Fit the labels (n, A, H) of rising bars (n,) and return the fit with forecasts (n, A, H) of each bar.

    The forecast of a bar comes from the other folds, without the bars whose labels or observations overlap
    those of its fold. The penalty of each horizon is the one whose forecasts out of fold err least.
    """
    found = fit_folds(market, bars, labels, lookback, horizons)
    return found.whole, found.forecasts


def fit_folds(
    market: Market, bars: IntArray, labels: FloatArray, lookback: int, horizons: Sequence[int]
) -> FoldedFit:
    """Fit as `out_of_fold` does, and return the fits without each fold as well."""
    count = len(bars)
    values = labels.reshape(count, -1)
    whole, without = _sums(market, bars, values, lookback, max(horizons) + lookback)
    found = np.empty((len(PENALTIES), *labels.shape))
    for fold, rest in without:
        for part in np.array_split(fold, -(-len(fold) // ROWS_AT_ONCE)):
            observed = observed_columns(market, bars[part], lookback).astype(np.float64)
            for place, (weights, intercept) in enumerate(rest):
                found[place, part] = (observed @ weights + intercept).reshape(len(part), *labels.shape[1:])
    spread = labels.std(axis=0)
    errors = (found - labels) / np.where(spread > 0, spread, 1.0)
    best = np.square(errors).mean(axis=(1, 2)).argmin(axis=0)
    shape = labels.shape[1:]
    without_each = tuple(_fit_of_best(rest, best, shape) for _, rest in without)
    return FoldedFit(_fit_of_best(whole.solve(PENALTIES), best, shape), without_each, _of_best(found, best))


def _fit_of_best(solutions: Sequence[Solution], best: IntArray, shape: tuple[int, ...]) -> LinearFit:
    """Return the fit with the best penalty of each horizon from the solutions of all; shape is (A, H)."""
    weights = np.array([each for each, _ in solutions]).reshape(len(PENALTIES), -1, *shape)
    intercepts = np.array([each for _, each in solutions]).reshape(len(PENALTIES), *shape)
    return LinearFit(_of_best(weights, best), _of_best(intercepts, best), np.array(PENALTIES)[best])


def _of_best(values: FloatArray, best: IntArray) -> FloatArray:
    """Return values (..., H) of the best penalty of each horizon from those (P, ..., H) of all."""
    return np.array(
        np.take_along_axis(values, best.reshape(-1, *[1] * (values.ndim - 2), len(best)), axis=0)[0]
    )


@dataclass(frozen=True, eq=False)
class _Products:
    """Sums over rows of products of columns (D,) and values (V,)."""

    rows: int
    columns: FloatArray  # (D,) sums
    values: FloatArray  # (V,) sums
    square: FloatArray  # (D, D)
    cross: FloatArray  # (D, V)

    def plus(self, other: "_Products", sign: int = 1) -> "_Products":
        """Return the sums with those of other rows added, or taken away with sign -1."""
        return _Products(
            self.rows + sign * other.rows,
            self.columns + sign * other.columns,
            self.values + sign * other.values,
            self.square + sign * other.square,
            self.cross + sign * other.cross,
        )

    def solve(self, penalties: Sequence[float]) -> list[Solution]:
        """Return weights (D, V) and intercept (V,) for each penalty; the intercept is not penalised."""
        from scipy.linalg.lapack import dposv  # slow to import, and most verbs fit nothing

        rows = max(self.rows, 1)
        centre, level = self.columns / rows, self.values / rows
        spread = self.square - rows * np.outer(centre, centre)
        cross = self.cross - rows * np.outer(centre, level)
        scales = _scales(spread, cross, rows)
        weights = np.empty((len(penalties), *cross.shape))
        for value, scale in enumerate(scales.T):
            scaled = spread * np.outer(scale, scale)
            diagonal = np.maximum(np.diag(scaled), 0.0)
            for place, penalty in enumerate(penalties):
                np.fill_diagonal(scaled, diagonal + penalty * rows)
                _, solved, failed = dposv(scaled, scale * cross[:, value])
                if failed:
                    raise NumericError(
                        "a ridge regression has no solution: a column is too large or not finite"
                    )
                weights[place, :, value] = scale * solved
        return [(each, level - centre @ each) for each in weights]


def _scales(spread: FloatArray, cross: FloatArray, rows: int) -> FloatArray:
    """Return the squared correlations of columns and values (D, V), relative to the largest of each value."""
    variance = np.diag(spread)[:, None]
    varies = variance > 1e-9 * rows
    explained = np.where(varies, np.square(cross) / np.where(varies, variance, 1.0), 0.0)
    largest = explained.max(axis=0, initial=0.0)
    return np.maximum(explained / np.where(largest > 0, largest, 1.0), LEAST_SCALE)


def _sums(
    market: Market, bars: IntArray, values: FloatArray, lookback: int, gap: int
) -> tuple[_Products, list[tuple[IntArray, list[Solution]]]]:
    """Return the products of all rows, and the solutions without each fold and `gap` bars on either side."""
    folds = np.array_split(np.arange(len(bars)), FOLDS)
    parts = [_products(market, bars[fold], values[fold], lookback) for fold in folds]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.plus(part)
    found = []
    for fold, part in zip(folds, parts, strict=True):
        begin, end = np.searchsorted(bars, (bars[fold[0]] - gap, bars[fold[-1]] + gap + 1))
        rest = whole.plus(part, -1)
        for near in (slice(begin, fold[0]), slice(fold[-1] + 1, end)):
            rest = rest.plus(_products(market, bars[near], values[near], lookback), -1)
        found.append((fold, rest.solve(PENALTIES)))
    return whole, found


def _products(market: Market, bars: IntArray, values: FloatArray, lookback: int) -> _Products:
    width = lookback * market.n_assets * len(market.feature_names)
    square, cross, total = np.zeros((width, width)), np.zeros((width, values.shape[1])), np.zeros(width)
    for first in range(0, len(bars), ROWS_AT_ONCE):
        observed = observed_columns(market, bars[first : first + ROWS_AT_ONCE], lookback).astype(np.float64)
        square += observed.T @ observed
        cross += observed.T @ values[first : first + ROWS_AT_ONCE]
        total += observed.sum(axis=0)
    return _Products(len(bars), total, values.sum(axis=0), square, cross)
