"""Performance metrics of one evaluation, from simple returns per calendar session."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from envs.types import DateArray, FloatArray, Market
from optimize.errors import NumericError

if TYPE_CHECKING:  # verbs that only read load no compiled kernels
    from optimize.evaluate.rollout import Evaluation
    from optimize.evaluate.windows import Window

RELATIVE_ROUNDING = 1e-9  # a spread below this share of the mean is rounding, not variance


@dataclass(frozen=True)
class WindowMetrics:
    """Metrics of one policy in one test span; annualised by the calendar of the data."""

    sharpe: float | None  # None if the session returns have no variance
    sharpe_zero_cost: float | None  # of the same actions without any cost
    total_return: float
    max_drawdown: float  # <= 0, over session closes
    volatility: float  # annual
    turnover: float  # sum of traded notional / equity
    cost: float  # commission + slippage + financing without interest earned, in units of starting equity
    trades: int  # fills, exits at a session's last close among them
    exposure: float  # mean over bars of sum |weight|
    bars: int
    sessions: int
    forced_exits: int = 0  # trades that closed a position at the end of a session against the order
    max_drawdown_bars: float | None = None  # <= 0, over bar closes; None: an older version measured it
    lowest: float | None = None  # equity at a bar close, from 1 at the start
    highest: float | None = None
    largest_exposure: float | None = None  # of the sum of |weights| at a bar close
    positions: int | None = None  # opened, those of forced exits and reversals counted anew
    holding_bars: float | None = None  # mean length of a position; None without one
    sharpe_in_sample: float | None = None  # of the same policy on the bars it learned from, net of costs
    liquidations: int | None = None  # bars on which the maintenance margin closed the positions
    action_range: float | None = None  # largest minus smallest action of an asset, the largest of all assets


def session_returns(market: Market, evaluation: "Evaluation", window: "Window") -> FloatArray:
    """Return the simple return of every calendar session (sessions,) of the test span.

    A session ends with its last bar's close; one without bars carries equity forward and returns 0.
    """
    return returns_of_sessions(market, evaluation, *window.test_sessions)


def returns_of_sessions(market: Market, evaluation: "Evaluation", first: int, end: int) -> FloatArray:
    """Return the simple return (end - first,) of every calendar session from one ordinal to another."""
    ordinals = np.arange(first, end)
    finished_bars = np.searchsorted(market.session[evaluation.bar], ordinals, side="right")
    equity = np.concatenate(([1.0], evaluation.equity))[np.concatenate(([0], finished_bars))]
    before, after = equity[:-1], equity[1:]
    alive = before > 0
    return np.where(alive, after / np.where(alive, before, 1.0) - 1.0, 0.0)


def returns_of_parts(
    market: Market, played: Iterable["Evaluation"], parts: Iterable[tuple[tuple[int, int], tuple[int, int]]]
) -> list[FloatArray]:
    """Return the session returns of each evaluation, which played one of the parts (bars, sessions)."""
    return [
        returns_of_sessions(market, evaluation, *sessions)
        for evaluation, (_, sessions) in zip(played, parts, strict=True)
    ]


def sharpe_ratio(returns: FloatArray, periods_per_year: float, risk_free: float = 0.0) -> float:
    """Return the annualised Sharpe ratio (ddof 1; risk_free is annual), NaN where the variance is zero."""
    if len(returns) < 2:
        return float("nan")
    excess = returns - risk_free / periods_per_year
    mean, spread = float(np.mean(excess)), float(np.std(excess, ddof=1))
    if spread <= RELATIVE_ROUNDING * abs(mean):
        return float("nan")
    return mean / spread * float(np.sqrt(periods_per_year))


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


def sortino_ratio(returns: FloatArray, periods_per_year: float) -> float:
    """Return the annualised Sortino ratio, downside deviation over all returns; NaN without downside."""
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2))) if len(returns) else 0.0
    if downside == 0:
        return float("nan")
    return float(np.mean(returns)) / downside * float(np.sqrt(periods_per_year))


def total_return(returns: FloatArray) -> float:
    """Return the compounded simple return."""
    return float(np.prod(1.0 + returns) - 1.0)


def max_drawdown(returns: FloatArray) -> float:
    """Return the deepest loss from a peak, the start included, as a fraction <= 0."""
    return equity_drawdown(np.cumprod(1.0 + returns, dtype=np.float64))


def equity_drawdown(equity: FloatArray) -> float:
    """Return the deepest loss from a peak of equity that starts at 1."""
    wealth = np.concatenate(([1.0], equity))
    return float(np.min(wealth / np.maximum.accumulate(wealth) - 1.0))


def cagr(returns: FloatArray, periods_per_year: float) -> float:
    """Return the compound annual growth rate, NaN for no returns."""
    if len(returns) == 0:
        return float("nan")
    return float((1.0 + total_return(returns)) ** (periods_per_year / len(returns)) - 1.0)


def calmar_ratio(returns: FloatArray, periods_per_year: float) -> float:
    """Return the compound annual growth rate over the maximum drawdown, NaN without a drawdown."""
    depth = max_drawdown(returns)
    return cagr(returns, periods_per_year) / -depth if depth < 0 else float("nan")


def drawdown_length(returns: FloatArray) -> int:
    """Return the most sessions in a row that end below an earlier peak, the start included."""
    wealth = np.concatenate(([1.0], np.cumprod(1.0 + returns, dtype=np.float64)))
    at_peak = np.flatnonzero(wealth >= np.maximum.accumulate(wealth))
    return int(np.max(np.diff(np.append(at_peak, len(wealth))), initial=1)) - 1


def hit_rate(returns: FloatArray) -> float:
    """Return the share of gains among the sessions that gained or lost, NaN where none did."""
    gains, losses = np.count_nonzero(returns > 0), np.count_nonzero(returns < 0)
    return gains / (gains + losses) if gains + losses else float("nan")


def profit_factor(returns: FloatArray) -> float:
    """Return the sum of gains over the sum of losses of sessions, NaN without a loss."""
    lost = -float(np.sum(returns[returns < 0]))
    return float(np.sum(returns[returns > 0])) / lost if lost > 0 else float("nan")


def tail_ratio(returns: FloatArray) -> float:
    """Return the size of the 95 % quantile over that of the 5 % quantile, NaN where the latter is 0."""
    low, high = np.quantile(returns, [0.05, 0.95]) if len(returns) else (0.0, 0.0)
    return float(abs(high) / abs(low)) if low != 0 else float("nan")


def alpha_beta(
    returns: FloatArray, market: FloatArray, periods_per_year: float, risk_free: float = 0.0
) -> tuple[float, float]:
    """Return annual alpha and beta of the excess returns to those of a market, NaN without its variance."""
    rate = risk_free / periods_per_year
    own, other = returns - rate, market - rate
    if len(own) < 2 or float(np.std(other)) <= RELATIVE_ROUNDING * abs(float(np.mean(other))):
        return float("nan"), float("nan")
    beta = float(np.cov(own, other, ddof=1)[0, 1] / np.var(other, ddof=1))
    return float((np.mean(own) - beta * np.mean(other)) * periods_per_year), beta


@dataclass(frozen=True)
class YearMetrics:
    """Metrics of the test sessions in one calendar year; NaN where undefined."""

    year: int
    sessions: int
    sharpe: float
    total_return: float
    volatility: float
    max_drawdown: float  # <= 0, over session closes, from the first of these sessions
    hit_rate: float


def by_year(
    returns: FloatArray, sessions: DateArray, periods_per_year: float, risk_free: float = 0.0
) -> list[YearMetrics]:
    """Return the metrics of session returns (T,) on dates (T,) for each calendar year, in order."""
    years = sessions.astype("datetime64[Y]").astype(np.int64) + 1970
    return [
        YearMetrics(
            year=int(year),
            sessions=len(part),
            sharpe=sharpe_ratio(part, periods_per_year, risk_free),
            total_return=total_return(part),
            volatility=volatility(part, periods_per_year),
            max_drawdown=max_drawdown(part),
            hit_rate=hit_rate(part),
        )
        for year in np.unique(years)
        for part in [returns[years == year]]
    ]


def volatility(returns: FloatArray, periods_per_year: float) -> float:
    """Return the annualised standard deviation (ddof 1), NaN below two returns."""
    if len(returns) < 2:
        return float("nan")
    return float(np.std(returns, ddof=1) * np.sqrt(periods_per_year))


def measure(
    market: Market,
    window: "Window",
    evaluation: "Evaluation",
    free_evaluation: "Evaluation",
    periods_per_year: float,
    risk_free: float = 0.0,
) -> WindowMetrics:
    """Measure one evaluation and its zero-cost replay; raise NumericError for impossible equity."""
    _check_equity(evaluation, window)
    _check_equity(free_evaluation, window)
    returns = session_returns(market, evaluation, window)
    free_returns = session_returns(market, free_evaluation, window)
    side = np.sign(evaluation.weight)
    before = np.vstack([np.zeros_like(side[:1]), side[:-1]])
    positions = int(np.count_nonzero((side != 0) & (side != before)))
    paid = evaluation.commission + evaluation.slippage + evaluation.financing + evaluation.interest
    return WindowMetrics(
        sharpe=_defined(sharpe_ratio(returns, periods_per_year, risk_free)),
        sharpe_zero_cost=_defined(sharpe_ratio(free_returns, periods_per_year, risk_free)),
        total_return=float(evaluation.equity[-1] - 1.0),
        max_drawdown=max_drawdown(returns),
        volatility=volatility(returns, periods_per_year),
        turnover=float(np.sum(evaluation.turnover)),
        cost=float(np.sum(paid)),
        trades=int(np.sum(evaluation.fills)),
        exposure=float(np.mean(np.sum(np.abs(evaluation.weight), axis=1))),
        bars=len(evaluation.bar),
        sessions=len(returns),
        max_drawdown_bars=equity_drawdown(evaluation.equity),
        lowest=float(np.min(evaluation.equity, initial=1.0)),
        highest=float(np.max(evaluation.equity, initial=1.0)),
        positions=positions,
        holding_bars=float(np.count_nonzero(side) / positions) if positions else None,
        liquidations=int(np.count_nonzero(evaluation.liquidated)),
        largest_exposure=float(np.max(np.sum(np.abs(evaluation.weight), axis=1), initial=0.0)),
        action_range=float(np.max(np.ptp(evaluation.action.astype(np.float64), axis=0), initial=0.0)),
        forced_exits=int(np.count_nonzero(evaluation.forced) + np.count_nonzero(evaluation.exit_quantity)),
    )


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _check_equity(evaluation: "Evaluation", window: "Window") -> None:
    """Raise NumericError for equity that an account without ruin cannot have."""
    equity = evaluation.equity
    possible = np.all(np.isfinite(equity)) and (evaluation.ruined or np.all(equity > 0))
    if not possible:
        raise NumericError(
            f"window {window.index}: the equity of the evaluation is not positive and finite "
            f"(lowest {np.min(equity)}): check the prices of data.path around its test span"
        )
