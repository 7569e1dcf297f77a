"""The forecaster ridge: the linear probe's fits without each fold and of all decisions of a train span."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.types import FloatArray
from optimize.walkforward.examples import Examples


@dataclass(frozen=True, eq=False)
class LinearForecast:
    """Weighted sums of the observed columns, each row added up in the same order however many there are."""

    weights: FloatArray  # (A, D)
    intercept: FloatArray  # (A,)

    def forecast(self, observed: NDArray[np.float32]) -> FloatArray:
        """Return the forecasts (n, A) of observations (n, L, A, F)."""
        found = np.empty((len(observed), len(self.weights)))
        _add_up(observed.reshape(len(observed), -1), self.weights, self.intercept, found)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return weights and intercept."""
        return {"weights": self.weights, "intercept": self.intercept}


@compiled
def _add_up(
    observed: NDArray[np.float32], weights: FloatArray, intercept: FloatArray, found: FloatArray
) -> None:
    """Write the forecasts (n, A) of observations (n, D); products of BLAS would depend on n."""
    for row in range(observed.shape[0]):
        for asset in range(weights.shape[0]):
            total = 0.0
            for column in range(observed.shape[1]):
                total += weights[asset, column] * observed[row, column]
            found[row, asset] = total + intercept[asset]


def fit_ridge(examples: Examples) -> list[LinearForecast]:
    """Return the fits without each fold, then that of all decisions."""
    whole, without = examples.linear
    return [
        LinearForecast(np.ascontiguousarray(fit.weights[:, :, 0].T), fit.intercept[:, 0].copy())
        for fit in (*without, whole)
    ]


def load_linear(arrays: Mapping[str, NDArray[Any]]) -> LinearForecast:
    """Return the fit of stored arrays."""
    return LinearForecast(arrays["weights"], arrays["intercept"])
