"""What needs no learning: the policies every agent must beat, on the same windows at the same costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import ActionSpace, still_action
from envs.costs import CostSpec
from envs.observations import Layout, layout_of
from envs.playing import play_recorded
from envs.policy import Fused, Policy
from envs.recording import Recording
from envs.rewards import RewardFunction, RewardSpec
from envs.types import FloatArray, Market
from envs.vector import EnvSpec
from envs.world import World
from optimize.evaluate.metrics import WindowMetrics, measure, session_returns
from optimize.evaluate.rollout import replay_free, rollout
from optimize.evaluate.score import ScoreSpec, score
from optimize.evaluate.summary import summarise
from optimize.evaluate.windows import Window

HOLD = "buy_and_hold"
OVERNIGHT = "buy_and_hold_overnight"  # beside HOLD where sessions end flat: bought once a window
TURNOVERS = (0.02, 0.1, 0.5)
REWARD = RewardSpec()  # nothing learns here, and the default needs no train span to start from
ANEW = "bought anew each session"
BOUGHT_ANEW = f"{ANEW}, as sessions end flat"


@dataclass(frozen=True, eq=False)
class FlatPolicy:
    """Never hold anything."""

    space: ActionSpace

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order no exposure."""
        return still(self.space, len(observation)), state

    def fuse(self, world: World, reward: RewardFunction) -> Fused:
        """Return what plays it without asking: a recording orders nothing at first."""
        return play_recorded


@dataclass(frozen=True, eq=False)
class BuyAndHoldPolicy:
    """Buy each asset at the first bar that trades and let it drift, in continuous actions at a leverage of 1.

    What a session's exit sold is bought again in the next, at cost: the same rules hold for every policy.
    """

    layout: Layout  # of the observation, which shows the weights held
    weight: FloatArray  # (A,) exposure bought of each asset

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Order what is not held yet, else the weight that is held, so that nothing trades."""
        held = observation[:, self.layout.weight : self.layout.weight + len(self.weight)]
        return np.where(held == 0, self.weight.astype(np.float32), held), state

    def fuse(self, world: World, reward: RewardFunction) -> Fused:
        """Return what plays it without asking."""
        return partial(play_recorded, hold=self.weight.astype(np.float32))


@dataclass(frozen=True, eq=False)
class RandomPolicy:
    """Draw a new uniform action at a fraction of the bars, else keep the last one; start flat."""

    space: ActionSpace
    turnover: float  # probability per bar of a new action
    seed: int

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Thread (generator, action) through the state, so that one seed gives one sequence."""
        flat = still(self.space, len(observation))
        generator, kept = state or (np.random.default_rng(self.seed), flat)
        fresh = generator.random(len(observation)) < self.turnover
        drawn = self._draw(generator, flat.shape)
        rows = (slice(None), *[None] * (flat.ndim - 1))
        action = np.where(fresh[rows], drawn, np.where(start[rows], flat, kept))
        return action, (generator, action)

    def fuse(self, world: World, reward: RewardFunction) -> Fused:
        """Return what plays it without asking: it looks at nothing, so all is drawn ahead."""

        def fused(world: World, recording: Recording) -> None:
            rows, steps = recording.equity.shape
            nothing = np.empty((rows, 0), np.float32)
            start, state = np.ones(rows, np.bool_), None
            for step in range(steps):
                action, state = self.act(nothing, state, start)
                recording.action[:, step] = action.reshape(rows, -1)
                start = np.zeros(rows, np.bool_)
            play_recorded(world, recording)

        return fused

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        if isinstance(self.space, spaces.Discrete):
            return generator.integers(int(self.space.n), size=shape)
        return generator.uniform(self.space.low, self.space.high, size=shape).astype(np.float32)


def still(space: ActionSpace, count: int) -> NDArray[Any]:
    """Return actions (count, ...) that order no exposure."""
    return np.full((count, *(space.shape or ())), still_action(space), dtype=space.dtype)


@dataclass(frozen=True, eq=False)
class _Result:
    """Test results of one window."""

    metrics: WindowMetrics
    returns: FloatArray
    free_returns: FloatArray


@dataclass(frozen=True, eq=False)
class Baseline:
    """One policy over all windows, each entered flat at unit equity."""

    name: str  # flat | buy_and_hold | buy_and_hold_overnight | random
    bought_anew: bool  # buy-and-hold where sessions end flat, so that it holds no night
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
    lookback: int,
    score_spec: ScoreSpec,
    seed: int,
    turnovers: Sequence[float] = TURNOVERS,
) -> tuple[Baseline, ...]:
    """Evaluate flat, buy-and-hold and random policies, all windows in one batch each."""
    space = env.action_space(market.n_assets)  # once: gymnasium's spaces are slow to make
    weight = hold_weight(env, market.n_assets)
    # Drift and opening gaps must not trade: only an asset that is not held yet is half its weight away.
    hold_env = replace(
        env, action="continuous", max_leverage=1.0, max_weights=[], rebalance_band=float(weight.min()) / 2
    )
    holder = BuyAndHoldPolicy(layout_of(market, lookback, REWARD), weight)
    policies: list[tuple[str, float | None, Policy, EnvSpec, Market]] = [
        ("flat", None, FlatPolicy(space), env, market),
        (HOLD, None, holder, hold_env, market),
    ]
    if ends_flat(market):
        policies.append((OVERNIGHT, None, holder, hold_env, _without_exits(market)))
    policies += [("random", level, RandomPolicy(space, level, seed), env, market) for level in turnovers]
    return tuple(
        _evaluate(name, level, policy, open_market, windows, rules, cost, lookback, score_spec)
        for name, level, policy, rules, open_market in policies
    )


def ends_flat(market: Market) -> bool:
    """Return whether any session of a market closes its positions, so that nothing is held overnight."""
    return bool(market.exit_at_open.any() or market.exit_at_close.any())


def _without_exits(market: Market) -> Market:
    """Return the market with its positions held from session to session."""
    never = np.zeros(market.n_bars, np.bool_)
    return replace(market, exit_at_open=never, exit_at_close=never)


def baseline_label(name: str, bought_anew: bool) -> str:
    """Return the name of a baseline as tables, pictures and notes show it: as stored, qualified."""
    return f"{name} ({ANEW})" if bought_anew else name


def hold_weight(env: EnvSpec, n_assets: int) -> FloatArray:
    """Return the exposures (A,) of buy-and-hold: equal, unborrowed, cut to the limits; the rest is cash."""
    return np.minimum(min(env.max_leverage, 1.0) / n_assets, env.weight_limits(n_assets))


def _evaluate(
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
    spans = [(window.test_first, window.test_last) for window in windows]
    paid = rollout(policy, market, spans, env=env, cost=cost, reward=REWARD, lookback=lookback)
    free = replay_free(paid, market, env=env, reward=REWARD, lookback=lookback)
    year = market.sessions_per_year
    metrics = tuple(
        measure(market, window, with_cost, without, year, score_spec.risk_free)
        for window, with_cost, without in zip(windows, paid, free, strict=True)
    )
    results = [
        _Result(each, session_returns(market, with_cost, window), session_returns(market, without, window))
        for each, window, with_cost, without in zip(metrics, windows, paid, free, strict=True)
    ]
    returns = [result.returns for result in results]
    whole = summarise([results], year, score_spec.risk_free)
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
        bought_anew=name == HOLD and ends_flat(market),
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
