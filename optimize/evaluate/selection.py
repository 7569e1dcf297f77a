"""Selection walk-forward: the return that choosing trials by their earlier windows would have earned.

The best score of a study was chosen on the windows that it reports. Here the trial for window k is chosen by
the windows before k alone, by the study's own rule, and its returns in window k are joined over k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import BoolArray, FloatArray, IntArray
from optimize.evaluate.metrics import RELATIVE_ROUNDING, sharpe_error, sharpe_ratio

DRAWS = 200  # of random choices, for the comparison


@dataclass(frozen=True)
class Selection:
    """Result of choosing the trial of each window by the windows before it."""

    sharpe: float | None  # annualised, of the joined sessions; None where they have no variance
    standard_error: float | None
    random_choice: float | None  # mean Sharpe ratio where the trial of each window is drawn at random
    sessions: int
    chosen: tuple[int, ...]  # index of the trial in each window from the second one on


@dataclass(frozen=True)
class SelectionRule:
    """How a study ranks its trials by finished windows, and which of them are feasible."""

    kind: str  # of score.kind
    risk_free: float  # a year
    k: float  # standard errors that lower_bound subtracts
    min_trades: int | None  # None: one for each window
    min_volatility: float  # a year


def selection_walk_forward(
    *,
    returns: FloatArray,
    window: IntArray,
    trades: FloatArray,
    parameter_set: Sequence[str],
    rule: SelectionRule,
    sessions_per_year: float,
    gated: BoolArray | None = None,
    seed: int = 0,
) -> Selection | None:
    """Choose a trial for every window but the first by the windows before it; None without a choice.

    returns: (N, R, T) simple session returns, NaN after the last window of a trial. window: (T,) ascending.
    trades: (N, R, K). gated: (N, K) whether a gate blocks the windows up to this one. A trial can be chosen
    for window k if it has the windows 0 to k and no gate blocks those before k, also where it was stopped or
    blocked later. Of several runs of a parameter set the one of the lower median counts, and a run that was
    stopped before counts below every score.
    """
    windows = int(window[-1]) + 1
    starts = np.searchsorted(window, np.arange(windows + 1))
    has = np.stack([np.isfinite(returns[:, :, window == k]).all(axis=(1, 2)) for k in range(windows)], axis=1)
    names, of_set = np.unique(np.array(parameter_set), return_inverse=True)
    joined, random_parts, chosen = [], [], []
    generator = np.random.default_rng(seed)
    for k in range(1, windows):
        there = np.asarray(has[:, : k + 1].all(axis=1))
        if not there.any():
            break
        before = returns[:, :, : starts[k]]
        repeats = _sharpes(before, window[: starts[k]], rule, sessions_per_year)
        value = np.where(has[:, :k].all(axis=1), np.median(repeats, axis=1), np.nan)
        value = np.where(_feasible(before, trades[:, :, :k], rule, sessions_per_year), value, np.nan)
        if gated is not None:
            value = np.where(gated[:, k - 1], np.nan, value)
        best = _best(np.where(np.isfinite(value), value, -np.inf), there, of_set, len(names))
        if best is None:
            continue
        test = slice(starts[k], starts[k + 1])
        joined.append(returns[best, _median_repeat(repeats[best]), test])
        drawn = generator.choice(np.flatnonzero(there), DRAWS)
        random_parts.append(returns[drawn, generator.integers(returns.shape[1], size=DRAWS), test])
        chosen.append(best)
    if not joined:
        return None
    earned = np.concatenate(joined)
    random = np.concatenate(random_parts, axis=1)
    by_chance = [sharpe_ratio(row, sessions_per_year, rule.risk_free) for row in random]
    defined = [each for each in by_chance if math.isfinite(each)]
    return Selection(
        sharpe=_finite(sharpe_ratio(earned, sessions_per_year, rule.risk_free)),
        standard_error=_finite(sharpe_error(earned - rule.risk_free / sessions_per_year, sessions_per_year)),
        random_choice=float(np.mean(defined)) if defined else None,
        sessions=len(earned),
        chosen=tuple(chosen),
    )


def _sharpes(
    returns: FloatArray, window: IntArray, rule: SelectionRule, sessions_per_year: float
) -> FloatArray:
    """Return the study's statistic (N, R) of the finished windows, NaN where it is not defined."""
    if rule.kind == "joined":
        return _ratio(returns, rule, sessions_per_year)
    each = np.stack(
        [_ratio(returns[:, :, window == k], rule, sessions_per_year) for k in np.unique(window)], axis=2
    )
    if rule.kind == "median_window":
        return np.asarray(np.median(each, axis=2))
    mean: FloatArray = np.asarray(np.mean(each, axis=2))
    if rule.kind == "mean_window" or each.shape[2] < 2:
        return mean
    error = np.std(each, axis=2, ddof=1) / math.sqrt(each.shape[2])
    return np.asarray(mean - rule.k * error)


def _ratio(returns: FloatArray, rule: SelectionRule, sessions_per_year: float) -> FloatArray:
    """Return the annualised Sharpe ratio along the last axis, NaN without variance."""
    if returns.shape[-1] < 2:
        return np.full(returns.shape[:-1], np.nan)
    mean = returns.mean(axis=-1) - rule.risk_free / sessions_per_year
    spread = returns.std(axis=-1, ddof=1)
    varied = spread > RELATIVE_ROUNDING * np.abs(mean)
    ratio = np.divide(mean, spread, out=np.full_like(mean, np.nan), where=varied)
    return np.asarray(ratio * math.sqrt(sessions_per_year))


def _feasible(
    returns: FloatArray, trades: FloatArray, rule: SelectionRule, sessions_per_year: float
) -> BoolArray:
    """Return which trials (N,) pass the study's limits on the finished windows, in every repeat."""
    needed = trades.shape[2] if rule.min_trades is None else rule.min_trades
    enough = (trades.sum(axis=2) >= needed).all(axis=1)
    if returns.shape[2] < 2:
        return np.zeros(len(returns), np.bool_)
    moving = (returns.std(axis=2, ddof=1) * math.sqrt(sessions_per_year) >= rule.min_volatility).all(axis=1)
    return np.asarray(enough & moving & (returns > -1.0).all(axis=(1, 2)))


def _best(value: FloatArray, there: BoolArray, of_set: IntArray, sets: int) -> int | None:
    """Return the trial that represents the best parameter set, None where no set has a value."""
    order = np.lexsort((np.arange(len(value)), value, of_set))  # within each set by value, then by number
    first = np.searchsorted(of_set[order], np.arange(sets))
    runs = np.bincount(of_set, minlength=sets)
    medians = order[first + (runs + 1) // 2 - 1]
    candidates = [int(each) for each in medians if there[each] and np.isfinite(value[each])]
    return max(candidates, key=lambda each: (value[each], -each), default=None)


def _median_repeat(sharpes: FloatArray) -> int:
    """Return the repeat of the lower median."""
    return int(np.argsort(sharpes, kind="stable")[(len(sharpes) - 1) // 2])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
