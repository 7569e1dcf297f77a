"""What needs no learning: the policies every agent must beat, on the same windows at the same costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.observations import ACCOUNT_SCALARS
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.types import FloatArray, Market
from envs.vector import EnvSpec
from optimize.evaluate.metrics import WindowMetrics, measure, session_returns, sharpe_ratio, total_return
from optimize.evaluate.rollout import replay_free, rollout
from optimize.evaluate.score import ScoreSpec, score
from optimize.evaluate.windows import Window

TURNOVERS = (0.02, 0.1, 0.5)
FLAT, LONG, CHOICES = 1, 2, 3  # of the discrete action space: short, flat, long


@dataclass(frozen=True)
class FlatPolicy:
    """Never hold anything."""

    assets: int
    discrete: bool

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order no exposure."""
        if self.discrete:
            return np.full(len(observation), FLAT, dtype=np.int64), state
        return np.zeros((len(observation), self.assets), dtype=np.float32), state


@dataclass(frozen=True)
class BuyAndHoldPolicy:
    """Buy equal weights at the first bar that trades, without borrowing, and let them drift."""

    assets: int
    discrete: bool
    max_leverage: float = 1.0  # exposure of an action of 1

    @property
    def weight(self) -> float:
        """Return the exposure bought of each asset."""
        return min(self.max_leverage, 1.0) / self.assets

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order what is not held yet, else the weight that is held, so that nothing trades."""
        if self.discrete:
            return np.full(len(observation), LONG, dtype=np.int64), state
        held = observation[:, -self.assets - ACCOUNT_SCALARS : -ACCOUNT_SCALARS]
        exposure = np.where(held == 0, np.float32(self.weight), held)
        return np.clip(exposure / np.float32(self.max_leverage), -1.0, 1.0).astype(np.float32), state


@dataclass(frozen=True)
class RandomPolicy:
    """Draw a new uniform target at a fraction of the bars, else keep the last one; start flat."""

    assets: int
    discrete: bool
    turnover: float  # probability per bar of a new target
    seed: int

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Thread (generator, target) through the state, so that one seed gives one sequence."""
        count = len(observation)
        if state is None:
            still, _ = FlatPolicy(self.assets, self.discrete).act(observation, None, start)
            state = (np.random.default_rng(self.seed), still)
        generator, target = state
        fresh = generator.random(count) < self.turnover
        if self.discrete:
            drawn = generator.integers(CHOICES, size=count)
            target = np.where(fresh, drawn, np.where(start, FLAT, target))
        else:
            drawn = generator.uniform(-1.0, 1.0, size=(count, self.assets)).astype(np.float32)
            target = np.where(fresh[:, None], drawn, np.where(start[:, None], np.float32(0.0), target))
        return target, (generator, target)


@dataclass(frozen=True, eq=False)
class Baseline:
    """One policy over all windows, each entered flat at unit equity."""

    name: str  # flat | buy_and_hold | random
    turnover: float | None  # probability per bar of a new target (random)
    score: float | None  # by the study's statistic; None where undefined or ruined
    total_return: float  # compounded over the windows
    cost: float  # sum over the windows, in units of starting equity
    sharpe: float | None  # annualised, of the joined session returns
    sharpe_zero_cost: float | None
    windows: tuple[WindowMetrics, ...]
    returns: tuple[FloatArray, ...]  # per window (sessions,) simple returns


def baselines(
    market: Market,
    windows: Sequence[Window],
    *,
    env: EnvSpec,
    cost: CostSpec,
    reward: RewardSpec,
    lookback: int,
    score_spec: ScoreSpec,
    seed: int,
    turnovers: Sequence[float] = TURNOVERS,
) -> tuple[Baseline, ...]:
    """Evaluate flat, buy-and-hold and random policies, all windows in one batch each."""
    assets, discrete = market.n_assets, env.action == "discrete"
    hold = BuyAndHoldPolicy(assets, discrete, env.max_leverage)
    # Drift and opening gaps must not trade: only an asset that is not held yet is half its weight away.
    hold_env = replace(env, rebalance_band=hold.weight / 2)
    policies: list[tuple[str, float | None, Policy, EnvSpec]] = [
        ("flat", None, FlatPolicy(assets, discrete), env),
        ("buy_and_hold", None, hold, hold_env),
    ]
    policies += [("random", level, RandomPolicy(assets, discrete, level, seed), env) for level in turnovers]
    return tuple(
        _evaluate(name, level, policy, market, windows, rules, cost, reward, lookback, score_spec)
        for name, level, policy, rules in policies
    )


def _evaluate(
    name: str,
    turnover: float | None,
    policy: Policy,
    market: Market,
    windows: Sequence[Window],
    env: EnvSpec,
    cost: CostSpec,
    reward: RewardSpec,
    lookback: int,
    score_spec: ScoreSpec,
) -> Baseline:
    spans = [(window.test_first, window.test_last) for window in windows]
    paid = rollout(policy, market, spans, env=env, cost=cost, reward=reward, lookback=lookback)
    free = replay_free(paid, market, env=env, reward=reward, lookback=lookback)
    year = market.sessions_per_year
    metrics = tuple(
        measure(market, window, with_cost, without, year, score_spec.risk_free)
        for window, with_cost, without in zip(windows, paid, free, strict=True)
    )
    returns, free_returns = (
        [session_returns(market, evaluation, window) for evaluation, window in zip(run, windows, strict=True)]
        for run in (paid, free)
    )
    # A baseline is a yardstick: what makes an agent infeasible (few trades) must not hide it.
    result = score(
        replace(score_spec, min_trades=0, min_volatility=0.0),
        [returns],
        trades=[sum(window.trades for window in metrics)],
        ruined=[any(evaluation.ruined for evaluation in paid)],
        sessions_per_year=year,
    )
    return Baseline(
        name=name,
        turnover=turnover,
        score=result.value,
        total_return=total_return(np.concatenate(returns)),
        cost=sum(window.cost for window in metrics),
        sharpe=_joined_sharpe(returns, year, score_spec.risk_free),
        sharpe_zero_cost=_joined_sharpe(free_returns, year, score_spec.risk_free),
        windows=metrics,
        returns=tuple(returns),
    )


def _joined_sharpe(returns: Sequence[FloatArray], sessions_per_year: float, risk_free: float) -> float | None:
    value = sharpe_ratio(np.concatenate(returns), sessions_per_year, risk_free)
    return value if np.isfinite(value) else None
