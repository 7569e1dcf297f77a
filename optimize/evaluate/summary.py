"""Aggregation of metrics over all windows of an evaluation; no other module aggregates them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.types import FloatArray
from optimize.evaluate.drawdowns import SessionLevels
from optimize.evaluate.metrics import (
    WindowMetrics,
    alpha_beta,
    cagr,
    calmar_ratio,
    drawdown_length,
    hit_rate,
    max_drawdown,
    profit_factor,
    sharpe_ratio,
    sortino_ratio,
    tail_ratio,
    total_return,
    volatility,
)

BAR_LEVEL = ("max_drawdown_bars", "lowest", "highest")
SUMMED = ("cost", "turnover", "trades", "forced_exits")


@dataclass(frozen=True, eq=False)
class WindowResult:
    """Test results of one (window, repeat)."""

    metrics: WindowMetrics
    returns: FloatArray  # (sessions,) simple net returns of the test span
    free_returns: FloatArray  # (sessions,) of the same actions at zero cost
    ruined: bool
    seconds: float = 0.0  # of training and evaluation
    reward_active_share: float | None = None  # of the training steps; None: the reward has no bounds
    trained_steps: int | None = None  # of the training; None: evaluated again, or by an older version
    sharpe_validation: float | None = None  # of its weights on the validation tail; None: so, or no tail
    levels: SessionLevels | None = None  # of the test span; None: an older version measured it


def summarise(
    repeats: Sequence[Sequence[WindowResult]],
    sessions_per_year: float,
    risk_free: float,
    hold: FloatArray | None = None,
) -> dict[str, float]:
    """Return the metrics over all windows [repeat][window], median over repeats; NaN where undefined.

    hold: session returns of buy-and-hold over the same windows, for alpha and beta.
    """
    rows = [_summarise_repeat(windows, sessions_per_year, risk_free, hold) for windows in repeats]
    return {key: float(np.median([row[key] for row in rows])) for key in rows[0]}


def _summarise_repeat(
    windows: Sequence[WindowResult], sessions_per_year: float, risk_free: float, hold: FloatArray | None
) -> dict[str, float]:
    returns = np.concatenate([window.returns for window in windows])
    free = np.concatenate([window.free_returns for window in windows])
    sums = {key: float(sum(getattr(window.metrics, key) for window in windows)) for key in SUMMED}
    bars = [window.metrics.bars for window in windows]
    exposure = float(np.average([window.metrics.exposure for window in windows], weights=bars))
    return sums | {
        "sharpe": sharpe_ratio(returns, sessions_per_year, risk_free),
        "sharpe_zero_cost": sharpe_ratio(free, sessions_per_year, risk_free),
        "total_return": total_return(returns),
        "total_return_zero_cost": total_return(free),
        "max_drawdown": max_drawdown(returns),
        "max_drawdown_bars": bar_drawdown(windows),
        "exposure": exposure,
        "best_session": float(np.max(returns)) if len(returns) else float("nan"),
        **_ratios(returns, free, sessions_per_year),
        **_of_positions(windows),
        **_overfitting(windows, returns, sessions_per_year, risk_free),
        **_against(returns, hold, sessions_per_year, risk_free),
    }


def _ratios(returns: FloatArray, free: FloatArray, sessions_per_year: float) -> dict[str, float]:
    """Return the figures that follow from the joined session returns alone."""
    return {
        "sortino": sortino_ratio(returns, sessions_per_year),
        "calmar": calmar_ratio(returns, sessions_per_year),
        "cagr": cagr(returns, sessions_per_year),
        "volatility": volatility(returns, sessions_per_year),
        "drawdown_sessions": float(drawdown_length(returns)),
        "hit_rate": hit_rate(returns),
        "profit_factor": profit_factor(returns),
        "tail_ratio": tail_ratio(returns),
        "cost_drag": cagr(free, sessions_per_year) - cagr(returns, sessions_per_year),
    }


def _of_positions(windows: Sequence[WindowResult]) -> dict[str, float]:
    """Return figures of the holdings, NaN where an older version measured a window."""
    metrics = [window.metrics for window in windows]
    exposures = [each.largest_exposure for each in metrics if each.largest_exposure is not None]
    whole = len(exposures) == len(metrics)
    held = sum((each.holding_bars or 0.0) * (each.positions or 0) for each in metrics)
    positions = sum(each.positions or 0 for each in metrics)
    return {
        "largest_exposure": max(exposures) if whole and exposures else float("nan"),
        "liquidations": float(sum(each.liquidations or 0 for each in metrics)) if whole else float("nan"),
        "holding_bars": held / positions if positions else float("nan"),
    }


def _overfitting(
    windows: Sequence[WindowResult], returns: FloatArray, sessions_per_year: float, risk_free: float
) -> dict[str, float]:
    """Return the in-sample Sharpe ratio, mean over windows, beside the joined one out of sample."""
    measured = [window.metrics.sharpe_in_sample for window in windows]
    known = [value for value in measured if value is not None]
    inside = float(np.mean(known)) if len(known) == len(windows) else float("nan")
    outside = sharpe_ratio(returns, sessions_per_year, risk_free)
    own = [sharpe_ratio(window.returns, sessions_per_year, risk_free) for window in windows]
    return {
        "sharpe_in_sample": inside,
        "degradation": inside - outside,
        "walk_forward_efficiency": walk_forward_efficiency(inside, outside),
        "window_spread": float(np.std(own, ddof=1)) if len(own) > 1 else float("nan"),
    }


def walk_forward_efficiency(inside: float | None, outside: float | None) -> float:
    """Return the Sharpe ratio out of sample over that in sample, NaN where the latter is not above 0."""
    if inside is None or outside is None or not inside > 0:
        return float("nan")
    return outside / inside


def _against(
    returns: FloatArray, hold: FloatArray | None, sessions_per_year: float, risk_free: float
) -> dict[str, float]:
    """Return alpha and beta to buy-and-hold, nothing where its returns are not given."""
    if hold is None:
        return {}
    alpha, beta = alpha_beta(returns, hold[: len(returns)], sessions_per_year, risk_free)
    return {"alpha": alpha, "beta": beta}


class WindowFigures(Protocol):
    """The stored figures of one window, which are summed over windows without reading its returns."""

    @property
    def repeat(self) -> int:
        """Return the number of the training among those of one window."""
        ...

    @property
    def total_return(self) -> float | None:
        """Return the net return of the window."""
        ...

    @property
    def cost(self) -> float | None:
        """Return the costs in shares of the starting equity."""
        ...

    @property
    def turnover(self) -> float | None:
        """Return the traded notional in units of equity."""
        ...

    @property
    def trades(self) -> float | None:
        """Return the number of fills."""
        ...


def summarise_figures(windows: Sequence[WindowFigures]) -> dict[str, float]:
    """Return return, cost, turnover and trades over all windows of stored rows, median over repeats."""
    numbers = sorted({window.repeat for window in windows})
    repeats = [[window for window in windows if window.repeat == number] for number in numbers]
    found = {
        key: float(np.median([sum(float(getattr(window, key) or 0.0) for window in row) for row in repeats]))
        for key in ("cost", "turnover", "trades")
    }
    growth = [math.prod(1.0 + float(window.total_return or 0.0) for window in row) for row in repeats]
    return found | {"total_return": float(np.median(growth)) - 1.0}


def lowest_equity(windows: Sequence[WindowResult]) -> float:
    """Return the lowest equity at a bar close of the joined windows; NaN where one has no bar level."""
    base, lowest = 1.0, 1.0
    for window in windows:
        if window.metrics.lowest is None:
            return float("nan")
        lowest = min(lowest, base * window.metrics.lowest)
        base *= 1.0 + window.metrics.total_return
    return lowest


def bar_drawdown(windows: Sequence[WindowResult]) -> float:
    """Return the deepest loss from a peak over the bar closes of all windows; NaN where one has no bar level.

    A window's bars are not stored: its lowest and highest equity and its own drawdown give the same figure.
    """
    base, peak, deepest = 1.0, 1.0, 0.0
    for window in windows:
        own, lowest, highest = (getattr(window.metrics, key) for key in BAR_LEVEL)
        if own is None or lowest is None or highest is None:
            return float("nan")
        deepest = min(deepest, own, base * lowest / peak - 1.0)
        peak = max(peak, base * highest)
        base *= 1.0 + window.metrics.total_return
    return float(deepest)


def joined_levels(windows: Sequence[WindowResult]) -> SessionLevels | None:
    """Return the levels of windows that are traded one after the other; None where one has no bar level.

    The worst drawdown is that of `bar_drawdown` to the last digit.
    """
    base, peak, parts = 1.0, 1.0, []
    for window in windows:
        own = window.levels
        if own is None or window.metrics.highest is None:
            return None
        joined = np.minimum(own.drawdown, base * own.lowest / peak - 1.0)
        parts.append((joined, base * own.lowest, base * own.highest))
        peak = max(peak, base * window.metrics.highest)
        base *= 1.0 + window.metrics.total_return
    return SessionLevels(*map(np.concatenate, zip(*parts, strict=True))) if parts else None
