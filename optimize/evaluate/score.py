"""The objective of a trial: one finite number, or a reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import FloatArray
from optimize.errors import BadInputError, require
from optimize.evaluate.metrics import RELATIVE_ROUNDING, sharpe_ratio, volatility
from optimize.evaluate.windows import WindowPlan

KINDS = ("joined", "mean_window", "median_window", "lower_bound")

ERRORS = {  # meaning of the standard error for each kind of score
    "joined": "of the Sharpe ratio of these sessions, with their autocorrelation",
    "mean_window": "of the mean over windows, from 4 windows on",
    "median_window": "none, for that of a median over windows is not known",
    "lower_bound": "of the mean over windows, from 4 windows on",
}
LEAST_WINDOWS = 4  # fewer give no standard error of their mean
RepeatReturns = Sequence[Sequence[FloatArray]]  # [repeat][window] (sessions,) simple returns


@dataclass(frozen=True)
class ScoreSpec:
    """Which statistic of the session returns is the objective, and when it counts."""

    kind: str = "joined"  # joined | mean_window | median_window | lower_bound
    risk_free: float = 0.0  # annual
    min_periods: int = 20  # test sessions in all windows together
    min_trades: int | None = None  # fills over all windows, in every repeat; None: one for each window
    min_volatility: float = 0.001  # annual, in every repeat
    k: float = 1.0  # standard errors below the mean (lower_bound)
    repeats: int = 1  # trainings of each window with different seeds

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "score.kind", self.kind, f"one of {', '.join(KINDS)}")
        require(-1 < self.risk_free < np.inf, "score.risk_free", self.risk_free, "an annual rate above -1")
        require(self.min_periods >= 2, "score.min_periods", self.min_periods, "at least 2")
        least = self.min_trades
        fine = least is None or least >= 0
        require(fine, "score.min_trades", least, "at least 0, or null (one for each window)")
        require(0 <= self.min_volatility < np.inf, "score.min_volatility", self.min_volatility, "at least 0")
        require(0 <= self.k < np.inf, "score.k", self.k, "at least 0")
        require(self.repeats >= 1, "score.repeats", self.repeats, "at least 1")


@dataclass(frozen=True)
class Score:
    """The objective with its spread over windows; value is None exactly when it is not feasible."""

    value: float | None
    feasible: bool
    reason: str | None  # ruin | undefined_sharpe | min_trades | min_volatility
    standard_error: float | None  # of the value; None where it cannot be estimated
    window_values: tuple[float | None, ...]  # annualised Sharpe ratio, median over repeats


def score(
    spec: ScoreSpec,
    returns: RepeatReturns,
    *,
    trades: Sequence[int],
    ruined: Sequence[bool],
    sessions_per_year: float,
) -> Score:
    """Score the session returns of all windows; trades and ruined have one entry per repeat."""
    sharpes = _window_sharpes(spec, returns, sessions_per_year)
    medians = np.median(sharpes, axis=0)
    value = _statistic(spec, returns, sharpes, sessions_per_year)
    lowest_volatility = min(volatility(np.concatenate(repeat), sessions_per_year) for repeat in returns)
    reason = None
    if any(ruined):
        reason = "ruin"
    elif not np.isfinite(value):
        reason = "undefined_sharpe"
    elif min(trades) < trades_needed(spec, len(returns[0])):
        reason = "min_trades"
    elif lowest_volatility < spec.min_volatility:
        reason = "min_volatility"
    error = _error(spec, returns, medians, sessions_per_year)
    return Score(
        value=float(value) if reason is None else None,
        feasible=reason is None,
        reason=reason,
        standard_error=float(error) if np.isfinite(error) else None,
        window_values=tuple(float(median) if np.isfinite(median) else None for median in medians),
    )


def trades_needed(spec: ScoreSpec, windows: int) -> int:
    """Return the fewest fills of a feasible trial: as stated, else one for each window.

    A position held through a window has two, so that holding is feasible at any number of windows.
    """
    return windows if spec.min_trades is None else spec.min_trades


def running_score(spec: ScoreSpec, returns: RepeatReturns, sessions_per_year: float) -> float | None:
    """Return the score of the windows finished so far, or None while it would mislead a pruner."""
    sessions = sum(len(window) for window in returns[0]) if returns else 0
    if sessions < spec.min_periods:
        return None
    sharpes = _window_sharpes(spec, returns, sessions_per_year)
    value = _statistic(spec, returns, sharpes, sessions_per_year)
    return float(value) if np.isfinite(value) else None


def check_periods(spec: ScoreSpec, plan: WindowPlan) -> None:
    """Refuse a plan whose test sessions cannot carry the score, before anything is trained."""
    remedy = "use a longer span of data (data.months) or a smaller window.train_ratio"
    if plan.test_sessions < spec.min_periods:
        raise BadInputError(
            f"the {len(plan.windows)} windows have {plan.test_sessions} test sessions in all, "
            f"score.min_periods needs {spec.min_periods}: {remedy}, or lower score.min_periods"
        )
    if spec.kind == "lower_bound" and len(plan.windows) < 2:
        raise BadInputError("score.kind='lower_bound' needs at least 2 windows: raise window.count")
    shortest = min(plan.windows, key=lambda window: window.test_sessions)
    if spec.kind != "joined" and shortest.test_sessions < 2:
        raise BadInputError(
            f"score.kind={spec.kind!r} needs at least 2 test sessions in each window, "
            f"window {shortest.index} has {shortest.test_sessions}: {remedy}, or score.kind=joined"
        )


def _window_sharpes(spec: ScoreSpec, returns: RepeatReturns, sessions_per_year: float) -> FloatArray:
    """Return the annualised Sharpe ratio (repeats, windows), NaN where undefined."""
    rows = [[sharpe_ratio(window, sessions_per_year, spec.risk_free) for window in row] for row in returns]
    return np.array(rows, dtype=np.float64)


def _statistic(
    spec: ScoreSpec, returns: RepeatReturns, sharpes: FloatArray, sessions_per_year: float
) -> float:
    """Return the median over repeats of the chosen statistic; NaN as soon as one repeat has none."""
    if spec.kind == "joined":
        joined = (np.concatenate(repeat) for repeat in returns)
        values = [sharpe_ratio(repeat, sessions_per_year, spec.risk_free) for repeat in joined]
    elif spec.kind == "mean_window":
        values = [float(np.mean(row)) for row in sharpes]
    elif spec.kind == "median_window":
        values = [float(np.median(row)) for row in sharpes]
    else:
        values = [float(np.mean(row)) - spec.k * _standard_error(row) for row in sharpes]
    return float(np.median(values))


def _error(spec: ScoreSpec, returns: RepeatReturns, medians: FloatArray, sessions_per_year: float) -> float:
    """Return the standard error of the score, NaN where it cannot be estimated.

    That of a joined score is of the Sharpe ratio of its sessions, median over repeats; that of a mean over
    windows comes from their spread, for LEAST_WINDOWS at least. A median has none.
    """
    if spec.kind == "joined":
        rate = spec.risk_free / sessions_per_year
        errors = [sharpe_error(np.concatenate(repeat) - rate, sessions_per_year) for repeat in returns]
        return float(np.median(errors))
    defined = medians[np.isfinite(medians)]
    if spec.kind == "median_window" or len(defined) < LEAST_WINDOWS:
        return float("nan")
    return _standard_error(defined)


def sharpe_error(excess: FloatArray, sessions_per_year: float) -> float:
    """Return the standard error of the annualised Sharpe ratio of excess returns (T,), NaN where it has none.

    Lo (2002), by the influence of each session on the ratio, so that skewed and heavy-tailed returns count;
    the covariances of neighbouring sessions are those of Newey & West (1987), with their lag of 1994.
    """
    sessions = len(excess)
    spread = float(np.std(excess, ddof=1)) if sessions > 1 else 0.0
    if spread <= RELATIVE_ROUNDING * abs(float(np.mean(excess))):
        return float("nan")
    unit = (excess - excess.mean()) / spread
    influence = unit - 0.5 * float(excess.mean()) / spread * (unit**2 - 1.0)
    influence -= influence.mean()
    lags = min(int(4.0 * (sessions / 100.0) ** (2.0 / 9.0)), sessions - 1)
    variance = float(influence @ influence)
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1)) * float(influence[lag:] @ influence[:-lag])
    return float(np.sqrt(variance / sessions / (sessions - 1) * sessions_per_year))


def _standard_error(values: FloatArray) -> float:
    """Return the standard error of a mean, NaN below two values."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
