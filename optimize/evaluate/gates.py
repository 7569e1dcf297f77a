"""Gates against results without meaning, and flags of results that are hard to believe.

A gate marks a run and changes neither its state nor its score: ranking, finalists and export leave it out.
A flag leaves it in, and export asks before it takes a flagged run. The keys are fixed for a study, because
rows that different gates let through cannot be ranked against each other; they do not belong to a run's
identity, because no gate changes a measurement. A study of a version without gates resumes without them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.types import Market
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.summary import BAR_LEVEL, WindowResult, bar_drawdown, lowest_equity

GATES = ("max_exposure", "min_equity", "max_drawdown", "opposite_sign", "constant_policy")  # in this order
IMPLAUSIBLE_SHARPE, SMOOTHED_PRICES, INTEREST = "implausible_sharpe", "smoothed_prices", "interest"
SYNTHETIC_PROVIDER = "synthetic"  # of planted markets, whose edges are as large as asked for
ONE_ACTION = 0.01  # actions that differ by no more are one action
ERRORS_OF_NOISE = 4.0  # standard errors that an autocorrelation must exceed, beside its limit


@dataclass(frozen=True)
class GateRule:
    """The gates of a study with the settings of one run that they depend on."""

    spec: ResultGateSpec
    max_leverage: float
    risk_free: float  # a year
    sessions_per_year: float


def blocking_gate(rule: GateRule, repeats: Iterable[Sequence[WindowResult]]) -> str | None:
    """Return the first gate that blocks the windows of any repeat [repeat][window], None where none does."""
    blocked = {name for windows in repeats for name in _blocked(rule, windows)}
    return next((name for name in GATES if name in blocked), None)


def _blocked(rule: GateRule, windows: Sequence[WindowResult]) -> set[str]:
    """Return the gates that block the windows of one repeat; figures that are not known block nothing."""
    spec, metrics = rule.spec, [window.metrics for window in windows]
    returns = np.concatenate([window.returns for window in windows])
    exposures = [each.largest_exposure for each in metrics if each.largest_exposure is not None]
    levels = [getattr(each, key) for each in metrics for key in BAR_LEVEL]
    broken = any(level is not None and math.isnan(level) for level in levels)  # NaN is below no limit
    ranges = [each.action_range for each in metrics]
    lost = -float(np.sum(np.log1p(np.maximum(returns, -1 + 1e-12))))
    forgone = len(returns) * float(np.log1p(rule.risk_free / rule.sessions_per_year))
    verdicts = {
        "max_exposure": not all(each <= spec.max_exposure * rule.max_leverage for each in exposures),
        "min_equity": broken or lowest_equity(windows) < spec.min_equity,
        "max_drawdown": broken or -bar_drawdown(windows) > spec.max_drawdown,
        "opposite_sign": spec.opposite_sign
        and sharpe_ratio(returns, rule.sessions_per_year, rule.risk_free) > 0
        and lost + forgone > 0,
        "constant_policy": spec.constant_policy
        and all(each is not None and each <= ONE_ACTION for each in ranges),
    }
    return {name for name, blocked in verdicts.items() if blocked}


def flags_of(
    spec: ResultGateSpec, *, sharpe: float, market: Market, provider: str, cash_rate: float, risk_free: float
) -> tuple[str, ...]:
    """Return the names of the reasons to doubt the net Sharpe ratio of a run on market data."""
    found = []
    if provider != SYNTHETIC_PROVIDER:
        if sharpe > spec.implausible_sharpe:
            found.append(IMPLAUSIBLE_SHARPE)
        if are_smoothed(market, spec.max_autocorrelation):
            found.append(SMOOTHED_PRICES)
    if cash_rate > risk_free:
        found.append(INTEREST)
    return tuple(found)


def are_smoothed(market: Market, limit: float) -> bool:
    """Return whether neighbouring bars of any asset move together by more than the limit and than noise.

    Averaged or interpolated prices do: no one can trade at them, and any trend rule looks skilled on them.
    """
    for asset in range(market.n_assets):
        close = market.close[market.tradable[:, asset], asset]
        returns = np.diff(np.log(close))
        if len(returns) < 3 or not np.any(returns != returns[0]):
            continue
        unit = returns - returns.mean()
        correlation = float(unit[1:] @ unit[:-1]) / float(unit @ unit)
        if correlation > max(limit, ERRORS_OF_NOISE / np.sqrt(len(returns))):
            return True
    return False
