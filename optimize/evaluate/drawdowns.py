"""Equity and its loss from a peak at the bar closes of each session of a window."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.types import FloatArray, Market

if TYPE_CHECKING:  # verbs that only read load no compiled kernels
    from optimize.evaluate.rollout import Evaluation
    from optimize.evaluate.windows import Window


@dataclass(frozen=True, eq=False)
class SessionLevels:
    """Equity at the bar closes of each session (S,), from 1 at the start of the first window."""

    drawdown: FloatArray  # <= 0, deepest from the highest bar close so far, the start included
    lowest: FloatArray
    highest: FloatArray


def session_levels(market: Market, evaluation: "Evaluation", window: "Window") -> SessionLevels:
    """Return the levels of every calendar session of a test span; one without bars keeps the last close."""
    ordinals = np.arange(*window.test_sessions)
    end = np.searchsorted(market.session[evaluation.bar], ordinals, side="right")
    begin = np.concatenate(([0], end[:-1]))
    wealth = np.concatenate(([1.0], evaluation.equity))
    loss = wealth / np.maximum.accumulate(wealth) - 1.0
    first = np.where(end > begin, begin + 1, begin)
    return SessionLevels(
        _reduced(np.minimum, loss, first, end),
        _reduced(np.minimum, wealth, first, end),
        _reduced(np.maximum, wealth, first, end),
    )


def _reduced(function: Any, values: FloatArray, first: Any, last: Any) -> FloatArray:
    """Return the minimum or maximum of each stretch of values, both ends included."""
    bounds = np.column_stack((first, last + 1)).ravel()
    return np.asarray(function.reduceat(np.append(values, values[-1]), bounds)[::2], np.float64)
