"""Baselines without learning, evaluated on the same windows at the same costs as agents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.actions import ActionSpace
from envs.costs import CostSpec
from envs.env_state import EnvState
from envs.fused_rollout import replay_actions
from envs.observations import ObservationLayout, observation_layout
from envs.policy import FusedRollout, Policy
from envs.rewards import RewardFunction
from envs.spec import EnvSpec
from envs.types import FloatArray, Market
from optimize.evaluate.captions import BUY_AND_HOLD, BUY_AND_HOLD_OVERNIGHT
from optimize.evaluate.metrics import WindowMetrics, measure, session_returns
from optimize.evaluate.random_policies import (
    BASELINE_REWARD,
    RANDOM_NAME,
    RandomPolicy,
    RandomScores,
    flat_actions,
    measure_random,
)
from optimize.evaluate.rollout import replay_without_costs, rollout
from optimize.evaluate.score import ScoreSpec, score
from optimize.evaluate.summary import WindowResult, summarise
from optimize.evaluate.windows import Window

TURNOVERS = (0.004, 0.02, 0.1, 0.5, 1.0)  # probabilities per bar of a new random target


@dataclass(frozen=True, eq=False)
class FlatPolicy:
    """Hold no position."""

    space: ActionSpace

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order no exposure."""
        return flat_actions(self.space, len(observation)), state

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout:
        """Return a rollout of the empty trajectory, whose actions are all flat."""
        return replay_actions


@dataclass(frozen=True, eq=False)
class BuyAndHoldPolicy:
    """Buy each asset at the first bar that trades and let it drift, in continuous actions at a leverage of 1.

    Positions closed by a session's exit are bought again in the next session, at cost.
    """

    layout: ObservationLayout  # of the observation, which shows the weights held
    weight: FloatArray  # (A,) exposure bought of each asset

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order assets that are not held yet; order held ones at their weight, so that they do not trade."""
        held = observation[:, self.layout.weight : self.layout.weight + len(self.weight)]
        return np.where(held == 0, self.weight.astype(np.float32), held), state

    def fuse(self, env: EnvState, reward: RewardFunction) -> FusedRollout:
        """Return a rollout that holds the weights."""
        return partial(replay_actions, hold=self.weight.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Baseline:
    """One policy over all windows, each entered flat at unit equity."""

    name: str  # flat | buy_and_hold | buy_and_hold_overnight | random | linear probe
    bought_anew: bool  # buy-and-hold in a market whose sessions end flat
    turnover: float | None  # probability per bar of a new target (random)
    score: float | None  # by the study's statistic; None if undefined or ruined
    total_return: float  # compounded over the windows
    cost: float  # sum over the windows, in units of starting equity
    sharpe: float | None  # annualised, of the joined session returns
    sharpe_zero_cost: float | None
    windows: tuple[WindowMetrics, ...]
    returns: tuple[FloatArray, ...]  # per window (sessions,) simple returns
    random: RandomScores | None = None  # of all random policies of this turnover, of which this is the median


def measure_baselines(
    market: Market,
    windows: Sequence[Window],
    *,
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    score_spec: ScoreSpec,
    seed: int,
    turnovers: Sequence[float] = TURNOVERS,
) -> tuple[Baseline, ...]:
    """Evaluate flat, buy-and-hold and random policies, all windows in one batch each.

    A random baseline is the median of many random policies of one turnover.
    """
    space = env.action_space(market.n_assets)  # once: gymnasium's spaces are slow to build
    weight = buy_and_hold_weight(env, market.n_assets)
    # With this band drift and opening gaps do not trade; only an asset that is not held yet does.
    hold_env = replace(
        env, action="continuous", max_leverage=1.0, max_weights=[], rebalance_band=float(weight.min()) / 2
    )
    holder = BuyAndHoldPolicy(observation_layout(market, lookback, BASELINE_REWARD), weight)
    policies: list[tuple[str, float | None, Policy, EnvSpec, Market]] = [
        ("flat", None, FlatPolicy(space), env, market),
        (BUY_AND_HOLD, None, holder, hold_env, market),
    ]
    if has_session_exits(market):
        policies.append((BUY_AND_HOLD_OVERNIGHT, None, holder, hold_env, _without_exits(market)))
    found = [
        measure_policy(name, level, policy, open_market, windows, rules, cost, lookback, score_spec)
        for name, level, policy, rules, open_market in policies
    ]
    for place, level in enumerate(turnovers):
        scores = measure_random(
            market,
            windows,
            env=env,
            cost=cost,
            lookback=lookback,
            score_spec=score_spec,
            turnover=level,
            seed=(seed, place),
        )
        median = RandomPolicy(space, level, (seed, place, scores.median_seed))
        one = measure_policy(RANDOM_NAME, level, median, market, windows, env, cost, lookback, score_spec)
        found.append(replace(one, score=scores.median, random=scores))
    return tuple(found)


def has_session_exits(market: Market) -> bool:
    """Return whether any session of a market closes its positions, so that nothing is held overnight."""
    return bool(market.exit_at_open.any() or market.exit_at_close.any())


def _without_exits(market: Market) -> Market:
    """Return the market with its positions held from session to session."""
    never = np.zeros(market.n_bars, np.bool_)
    return replace(market, exit_at_open=never, exit_at_close=never)


def buy_and_hold_weight(env: EnvSpec, n_assets: int) -> FloatArray:
    """Return the exposures (A,) of buy-and-hold: equal, unborrowed, cut to the limits; the rest is cash."""
    return np.minimum(min(env.max_leverage, 1.0) / n_assets, env.weight_limits(n_assets))


def measure_policy(
    name: str,
    turnover: float | None,
    policy: Policy,
    market: Market,
    windows: Sequence[Window],
    env: EnvSpec,
    cost: CostSpec,
    lookback: int,
    score_spec: ScoreSpec,
) -> Baseline:
    """Evaluate one policy over all windows in one batch, net and at zero cost."""
    spans = [(window.test_first, window.test_last) for window in windows]
    paid = rollout(policy, market, spans, env=env, cost=cost, reward=BASELINE_REWARD, lookback=lookback)
    free = replay_without_costs(
        paid, market, env=env, reward=BASELINE_REWARD, lookback=lookback, cash_rate=cost.cash_rate
    )
    year = market.sessions_per_year
    metrics = tuple(
        measure(market, window, with_cost, without, year, score_spec.risk_free)
        for window, with_cost, without in zip(windows, paid, free, strict=True)
    )
    results = [
        WindowResult(
            each,
            session_returns(market, with_cost, window),
            session_returns(market, without, window),
            with_cost.ruined,
        )
        for each, window, with_cost, without in zip(metrics, windows, paid, free, strict=True)
    ]
    returns = [result.returns for result in results]
    whole = summarise([results], year, score_spec.risk_free)
    # The feasibility limits of agents, such as few trades, do not apply to a baseline.
    result = score(
        replace(score_spec, min_trades=0, min_volatility=0.0),
        [returns],
        trades=[sum(window.trades for window in metrics)],
        ruined=[any(each.ruined for each in results)],
        sessions_per_year=year,
    )
    return Baseline(
        name=name,
        bought_anew=name == BUY_AND_HOLD and has_session_exits(market),
        turnover=turnover,
        score=result.value,
        total_return=whole["total_return"],
        cost=whole["cost"],
        sharpe=_defined(whole["sharpe"]),
        sharpe_zero_cost=_defined(whole["sharpe_zero_cost"]),
        windows=metrics,
        returns=tuple(returns),
    )


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
