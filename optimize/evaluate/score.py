"""Score of a trial: one finite number, or the reason for its absence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.fields import RUN, check_ranges, setting
from envs.types import FloatArray
from optimize.errors import BadInputError
from optimize.evaluate.metrics import sharpe_error, sharpe_ratio, volatility
from optimize.evaluate.windows import WindowPlan

SCORE_KINDS = ("joined", "mean_window", "median_window", "lower_bound")

MIN_WINDOWS_FOR_ERROR = 4  # fewer give no standard error of their mean
RepeatReturns = Sequence[Sequence[FloatArray]]  # [repeat][window] (sessions,) simple returns


@dataclass(frozen=True)
class ScoreSpec:
    """Statistic of the session returns that is the objective, and its feasibility limits."""

    kind: str = setting(
        "joined", RUN, "How the Sharpe ratios of windows become one score.", choices=SCORE_KINDS
    )
    risk_free: float = setting(0.0, RUN, "Rate that is subtracted.", unit="a year", above=-1)
    min_periods: int = setting(
        20, RUN, "Fewest test sessions in all windows together.", unit="sessions", low=2
    )
    min_trades: int | None = setting(
        None, RUN, "Fewest fills over all windows in every repeat.", unit="fills", low=0,
        null="one for each window",
    )  # fmt: skip
    min_volatility: float = setting(
        0.001, RUN, "Least volatility of the returns in every repeat.", unit="a year", low=0
    )
    k: float = setting(
        1.0, RUN, "Standard errors that are subtracted from the mean (kind=lower_bound).", low=0
    )
    repeats: int = setting(1, RUN, "Trainings of each window with different seeds.", low=1)

    def __post_init__(self) -> None:
        check_ranges(self, "score")


@dataclass(frozen=True)
class Score:
    """Score with its values by window; value is None exactly if it is not feasible."""

    value: float | None
    feasible: bool
    reason: str | None  # ruin | undefined_sharpe | min_trades | min_volatility
    standard_error: float | None  # of the value; None if it cannot be estimated
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
    """Return the minimum number of fills of a feasible trial; by default one for each window.

    A position held through a window has two, so that holding is feasible at any number of windows.
    """
    return windows if spec.min_trades is None else spec.min_trades


def running_score(
    spec: ScoreSpec, returns: RepeatReturns, sessions_per_year: float, *, undefined: float = np.nan
) -> float | None:
    """Return the score of the finished windows, or None if they have too few sessions for a pruner.

    undefined: Sharpe ratio of a window that has none, such as one without a trade.
    """
    sessions = sum(len(window) for window in returns[0]) if returns else 0
    if sessions < spec.min_periods:
        return None
    sharpes = _window_sharpes(spec, returns, sessions_per_year)
    sharpes = np.where(np.isnan(sharpes), undefined, sharpes)
    value = _statistic(spec, returns, sharpes, sessions_per_year)
    return float(value) if np.isfinite(value) else None


def check_periods(spec: ScoreSpec, plan: WindowPlan) -> None:
    """Refuse, before training, a plan with too few test sessions for the score."""
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
    if spec.kind == "median_window" or len(defined) < MIN_WINDOWS_FOR_ERROR:
        return float("nan")
    return _standard_error(defined)


def _standard_error(values: FloatArray) -> float:
    """Return the standard error of a mean, NaN below two values."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
