"""The probe's trading rule: a forecast as an exposure, held within a band, chosen on the train span alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import flat_action
from envs.compiled import compiled
from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import FloatArray, Market
from optimize.evaluate.metrics import returns_of_parts, sharpe_ratio
from optimize.evaluate.probe.labels import HORIZONS, known_decisions
from optimize.evaluate.probe.ridge import (
    LinearFit,
    affordable_lookback,
    enough_rows,
    observed_columns,
    out_of_fold,
)
from optimize.evaluate.random_policies import BASELINE_REWARD
from optimize.evaluate.rollout import RecordedPolicy, rollout
from optimize.evaluate.windows import parts_of_sessions

# Change of the ordered exposure from which it is traded, as a share of the largest one; inf stays flat.
BANDS = (0.0, 0.5, 1.0, math.inf)


@dataclass(frozen=True, eq=False)
class Probe:
    """A fit with the horizon and the band that earned most on the train span, by forecasts out of fold."""

    fit: LinearFit
    scale: FloatArray  # (A, H) root mean square of the forecasts out of fold
    horizon: int  # place in HORIZONS
    band: float  # one of BANDS
    train_sharpe: float  # annualised net Sharpe ratio of the forecasts out of fold on the train span
    lookback: int

    def actions(self, market: Market, first: int, last: int, env: EnvSpec) -> NDArray[Any]:
        """Return the actions that are filled on the test bars [first, last] of the scaled market."""
        forecast = self.fit.forecast(observed_columns(market, np.arange(first - 1, last), self.lookback))
        wanted = _wanted(forecast, self.scale, env)[..., self.horizon]
        return _as_actions(hold_within(wanted, self.band), env)


def fit_probe(
    market: Market,
    train: tuple[int, int],
    *,
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    risk_free: float = 0.0,
) -> Probe | None:
    """Fit the probe on the bars (first, last) of a purged train span of the scaled market.

    Penalty, horizon and band are chosen by forecasts out of fold, paid by the ledger at the study's costs.
    Returns None where the span holds too few decisions.
    """
    first, last = train
    lookback = affordable_lookback(market, lookback)
    known = known_decisions(market, first, last, at_open=env.fill == "open")
    if not enough_rows(len(known.bars), max(HORIZONS) + lookback):
        return None
    fit, forecasts = out_of_fold(market, known.bars, known.labels, lookback, HORIZONS)
    scale = np.sqrt(np.square(forecasts).mean(axis=0))
    begin, end = int(known.bars[0]), int(known.bars[-1])
    newest = np.searchsorted(known.bars, np.arange(begin, end + 1), side="right") - 1
    wanted = _wanted(forecasts, scale, env)[newest]  # without a decision the one before stays
    choices = [(horizon, band) for horizon in range(len(HORIZONS)) for band in BANDS]
    # A choice that stays flat earns 0, so that it is played only where its idle cash earns interest.
    trades = [math.isfinite(band) or cost.cash_rate != 0 for _, band in choices]
    played = [_as_actions(hold_within(wanted[..., h], band), env) for h, band in compress(choices, trades)]
    earned = np.zeros(len(choices))
    earned[trades] = _sharpe_ratios(market, (begin, end), played, env, cost, lookback, risk_free)
    best = int(np.argmax(earned))
    return Probe(fit, scale, choices[best][0], choices[best][1], float(earned[best]), lookback)


def hold_within(wanted: FloatArray, band: float) -> FloatArray:
    """Return exposures (n, A) that follow the wanted ones only where these move by the band or more."""
    held = np.array(wanted, dtype=np.float64, order="C")
    _hold_in_place(held, band)
    return held


@compiled
def _hold_in_place(exposure: FloatArray, band: float) -> None:
    for asset in range(exposure.shape[1]):
        now = 0.0
        for bar in range(exposure.shape[0]):
            if abs(exposure[bar, asset] - now) >= band:
                now = exposure[bar, asset]
            exposure[bar, asset] = now


def _wanted(forecast: FloatArray, scale: FloatArray, env: EnvSpec) -> FloatArray:
    """Return exposures (n, A, H) in shares of the largest one: the forecast in units of its own size."""
    sized: FloatArray = np.clip(
        forecast / np.where(scale > 0, scale, np.inf), 0.0 if env.long_only else -1.0, 1.0
    )
    return sized


def _as_actions(exposure: FloatArray, env: EnvSpec) -> NDArray[Any]:
    """Return actions of the environment for exposures (n, A) in shares of the largest one.

    The largest exposure of an asset is an equal share of the leverage, cut to its limit.
    """
    assets = exposure.shape[1]
    space = env.action_space(assets)
    if isinstance(space, spaces.Discrete):
        return np.array(np.rint(exposure[:, 0]) + flat_action(space), dtype=space.dtype)
    largest = np.minimum(env.max_leverage / assets, env.weight_limits(assets))
    return np.array(exposure * largest / env.max_leverage, dtype=space.dtype)


def _sharpe_ratios(
    market: Market,
    decided: tuple[int, int],
    played: Sequence[NDArray[Any]],
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    risk_free: float,
) -> FloatArray:
    """Return the net Sharpe ratio of each list of actions, one for each bar of `decided`; 0 if undefined."""
    first, last = decided
    parts = parts_of_sessions(market, first + 1, last + 1)
    rows = [(actions, part) for actions in played for part in parts]
    paid = rollout(
        RecordedPolicy([actions[start - first - 1 : end - first] for actions, ((start, end), _) in rows]),
        market,
        [span for _, (span, _) in rows],
        env=env,
        cost=cost,
        reward=BASELINE_REWARD,
        lookback=lookback,
    )
    returns = returns_of_parts(market, paid, [part for _, part in rows])
    joined = [np.concatenate(returns[k : k + len(parts)]) for k in range(0, len(rows), len(parts))]
    ratios = [sharpe_ratio(row, market.sessions_per_year, risk_free) for row in joined]
    return np.where(np.isfinite(ratios), ratios, 0.0)
