"""Registry of forecasters: each fits the return of a decision to what was observed before it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.types import FloatArray
from optimize.errors import require
from optimize.extensions import extendable

if TYPE_CHECKING:  # the registry is read by commands that fit nothing
    from optimize.walkforward.examples import Examples

NO_FORECAST = "none"  # value of feature.forecast for which no forecaster is fitted


class ForecastFit(Protocol):
    """A fitted forecaster, whose numbers are stored as plain arrays."""

    def forecast(self, observed: NDArray[np.float32]) -> FloatArray:
        """Return the forecasts (n, A) of observations (n, L, A, F); each row must depend on itself alone."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays from which its loader makes an equal fit."""
        ...


Fit = Callable[[NDArray[np.float32], FloatArray], ForecastFit]
Load = Callable[[Mapping[str, NDArray[Any]]], ForecastFit]


@dataclass(frozen=True)
class Forecaster:
    """A registered forecaster."""

    fit_folds: Callable[["Examples"], list[ForecastFit]]  # without each fold, then of all bars
    load: Load
    meaning: str


def _fit_ridge(examples: "Examples") -> list[ForecastFit]:
    from optimize.walkforward.linear_forecast import fit_ridge  # loads scipy

    return [*fit_ridge(examples)]


def _load_ridge(arrays: Mapping[str, NDArray[Any]]) -> ForecastFit:
    from optimize.walkforward.linear_forecast import load_linear

    return load_linear(arrays)


RIDGE = "Ridge regression on the columns of feature.groups over the lookback, its penalty chosen out of fold"
FORECASTERS: dict[str, Forecaster] = extendable({"ridge": Forecaster(_fit_ridge, _load_ridge, RIDGE)})


def forecaster(name: str, *, load: Load) -> Callable[[Fit], Fit]:
    """Register a function that fits labels (n, A) to observations (n, L, A, F) as feature.forecast=NAME.

    It is called once for each fold, with the rows outside of it, and once with all rows. The same rows must
    give the same fit. `load` makes a fit of its stored arrays.
    """

    def register(fit: Fit) -> Fit:
        require(name.isidentifier() and name != NO_FORECAST, "forecaster", name, "a name of its own")
        meaning = inspect.cleandoc(fit.__doc__ or "").partition("\n")[0].rstrip(".")
        FORECASTERS[name] = Forecaster(functools.partial(_fit_each, fit), load, meaning)
        return fit

    return register


def find_forecaster(name: str) -> Forecaster:
    """Return a forecaster by its name; raise BadInputError with the choices for another one."""
    names = [NO_FORECAST, *sorted(FORECASTERS)]
    require(name in FORECASTERS, "feature.forecast", name, f"one of {', '.join(names)}", names)
    return FORECASTERS[name]


def _fit_each(fit: Fit, examples: "Examples") -> list[ForecastFit]:
    """Fit the rows outside each fold, then all rows."""
    every = np.arange(len(examples.bars))
    rows = [*map(examples.outside, examples.folds), every]
    return [fit(examples.observed(places), examples.labels[places]) for places in rows]
