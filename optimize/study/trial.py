"""The spine: spec -> market -> windows -> train -> rollout -> score."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.costs import check_spread
from envs.episodes import session_spans
from envs.types import FloatArray, Market
from optimize.agents.agent import Agent
from optimize.agents.budget import divide_budget
from optimize.agents.registry import find_algorithm, hyperparameters_of
from optimize.agents.spec import AgentSpec
from optimize.agents.train import train
from optimize.data.cache import cached_market
from optimize.data.dataset import build_market
from optimize.data.scaling import Scaler, fit_scaler, scale_market
from optimize.data.spec import timeframe_ns
from optimize.errors import BadInputError
from optimize.evaluate.baselines import TURNOVERS, Baseline, baselines
from optimize.evaluate.metrics import WindowMetrics, measure, session_returns
from optimize.evaluate.rollout import replay_free, rollout
from optimize.evaluate.score import Score, check_periods, running_score, score
from optimize.evaluate.trades import Trades, trades_of
from optimize.evaluate.windows import Window, WindowPlan, place_windows, plan_windows, purge_bars
from optimize.extensions import load_extensions
from optimize.study.spec import StudySpec


@dataclass(frozen=True, eq=False)
class Ground:
    """What the trials of one timeframe and lookback stand on."""

    market: Market
    plan: WindowPlan
    windows: tuple[Window, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """What one window and repeat brought, small enough to keep in memory and on disk."""

    metrics: WindowMetrics
    returns: FloatArray  # (sessions,) simple net returns of the test span
    free_returns: FloatArray  # (sessions,) of the same actions at zero cost
    ruined: bool
    seconds: float
    reward_active_share: float | None = None  # of the training steps; None: the reward has no bounds


@dataclass(frozen=True, eq=False)
class Trained:
    """A window's agent with the scaler it was trained behind."""

    agent: Agent
    scaler: Scaler


@dataclass(frozen=True, eq=False)
class TrialResult:
    """All windows of a trial, [repeat][window], and what they come to."""

    measured: tuple[tuple[Measured, ...], ...]
    score: Score
    pruned_at: int | None  # the window after which the pruner stopped the trial


Key = tuple[int, int]  # window, repeat
Keep = Callable[[Window, int, Trained, Measured, Trades], None]
Report = Callable[[int, float], bool]


def lay_ground(spec: StudySpec, cache_dir: Path | None) -> Ground:
    """Build (or map) the market and place every window on it; raise BadInputError where one does not fit."""
    load_extensions(spec.extensions)
    parts = (spec.data, spec.feature, spec.session)
    market = build_market(*parts) if cache_dir is None else cached_market(*parts, cache_dir)
    plan = plan_windows(spec.window, market.session_date)
    check_periods(spec.score, plan)
    purge = purge_bars(spec.env.fill, target_horizon(spec.agent))
    windows = place_windows(plan, market, purge_bars=purge, lookback=spec.feature.lookback, spec=spec.window)
    check_spread(spec.cost, market)
    spec.env.check_assets(market.n_assets)
    if spec.env.episode == "session":
        _check_whole_sessions(market, windows)
    return Ground(market, plan, windows)


def _check_whole_sessions(market: Market, windows: Sequence[Window]) -> None:
    """Refuse train spans without a whole session to draw as an episode."""
    for window in windows:
        try:
            session_spans(market.session, window.train_first, window.train_last)
        except BadInputError as error:
            raise BadInputError(
                f"env.episode='session' is not allowed in window {window.index} at "
                f"data.timeframe={market.timeframe}: {error}, or env.episode=bars"
            ) from None


def target_horizon(agent: AgentSpec) -> int:
    """Return how many bars ahead a training target looks: 1, or n for n-step returns."""
    if find_algorithm(agent.name).on_policy:
        return 1
    return int(agent.hyperparameters.get("n_steps", 1))


def at_timeframe(spec: StudySpec, base: str) -> StudySpec:
    """State the budget and the discount of a study with timeframe `base` at the trial's own timeframe.

    Equal passes over the train span, and a horizon of equal time: half the bars, half the steps.
    """
    ratio = timeframe_ns(spec.data.target) / timeframe_ns(base)
    if ratio == 1:
        return spec
    agent, known = divide_budget(spec.agent, ratio), hyperparameters_of(spec.agent.name)
    if "gamma" in known:
        gamma = float(agent.hyperparameters.get("gamma", known["gamma"].default)) ** ratio
        agent = dataclasses.replace(agent, hyperparameters={**agent.hyperparameters, "gamma": gamma})
    return dataclasses.replace(spec, agent=agent)


def seed_of(entropy: Sequence[int], window: int, repeat: int) -> int:
    """Return the 32-bit seed of one training: SeedSequence([study seed, trial, window, repeat])."""
    return int(np.random.SeedSequence([*entropy, window, repeat]).generate_state(1)[0])


def run_trial(
    spec: StudySpec,
    ground: Ground,
    entropy: Sequence[int],
    *,
    keep: Keep,
    report: Report,
    finished: Mapping[Key, Measured] | None = None,
) -> TrialResult:
    """Train and evaluate window after window; `finished` ones of a lost run are not run again.

    `keep` stores each window before the next starts; `report(window, running score)` says whether to stop.
    """
    done = dict(finished or {})
    repeats = range(spec.score.repeats)
    for window in ground.windows:
        for repeat in repeats:
            if (window.index, repeat) not in done:
                seed = seed_of(entropy, window.index, repeat)
                trained, measured, trades = run_window(spec, ground, window, seed)
                keep(window, repeat, trained, measured, trades)
                done[window.index, repeat] = measured
        last = window.index == len(ground.windows) - 1
        so_far = [[done[w, repeat] for w in range(window.index + 1)] for repeat in repeats]
        value = running_score(spec.score, _returns(so_far), ground.market.sessions_per_year)
        if value is not None and report(window.index, value) and not last:
            return conclude(spec, ground, so_far, pruned_at=window.index)
    return conclude(spec, ground, so_far, pruned_at=None)


def run_window(
    spec: StudySpec, ground: Ground, window: Window, seed: int
) -> tuple[Trained, Measured, Trades]:
    """Fit the scaler and the agent on the purged train span, then evaluate on the test span."""
    started = time.perf_counter()
    scaler, market = _scaled(ground, window, spec.feature.lookback)
    agent = train(
        spec.agent,
        market,
        (window.train_first, window.train_last),
        env=spec.env,
        cost=spec.cost,
        reward=spec.reward,
        lookback=spec.feature.lookback,
        seed=seed,
    )
    trained = Trained(agent, scaler)
    measured, trades = _evaluate(spec, market, window, trained)
    return trained, dataclasses.replace(measured, seconds=time.perf_counter() - started), trades


def evaluate_window(
    spec: StudySpec, ground: Ground, window: Window, trained: Trained
) -> tuple[Measured, Trades]:
    """Run a trained agent over the test span of a window, net and at zero cost; return its trades as well."""
    started = time.perf_counter()
    market = scaled_to(ground, window, trained.scaler, spec.feature.lookback)
    measured, trades = _evaluate(spec, market, window, trained)
    return dataclasses.replace(measured, seconds=time.perf_counter() - started), trades


def _evaluate(spec: StudySpec, market: Market, window: Window, trained: Trained) -> tuple[Measured, Trades]:
    """Do so on the market as the agent sees it; whoever knows when it began says how long it took."""
    span = (window.test_first, window.test_last)
    env, reward, lookback = spec.env, spec.reward, spec.feature.lookback
    net = rollout(trained.agent, market, [span], env=env, cost=spec.cost, reward=reward, lookback=lookback)
    free = replay_free(net, market, env=env, reward=reward, lookback=lookback)
    measured = Measured(
        metrics=measure(market, window, net[0], free[0], market.sessions_per_year, spec.score.risk_free),
        returns=session_returns(market, net[0], window),
        free_returns=session_returns(market, free[0], window),
        ruined=net[0].ruined,
        seconds=0.0,
        reward_active_share=trained.agent.reward_active_share,
    )
    return measured, trades_of(net[0], market, env.fill)


def yardsticks(
    spec: StudySpec, ground: Ground, turnovers: Sequence[float] = TURNOVERS
) -> tuple[Baseline, ...]:
    """Evaluate flat, buy-and-hold and random policies on the same windows at the same costs."""
    return baselines(
        ground.market,
        ground.windows,
        env=spec.env,
        cost=spec.cost,
        lookback=spec.feature.lookback,
        score_spec=spec.score,
        seed=spec.seed,
        turnovers=turnovers,
    )


@functools.lru_cache(maxsize=1)  # all repeats of a window train on one market
def _scaled(ground: Ground, window: Window, lookback: int) -> tuple[Scaler, Market]:
    scaler = fit_scaler(ground.market, window.train_first, window.train_last + 1)
    return scaler, scaled_to(ground, window, scaler, lookback)


def scaled_to(ground: Ground, window: Window, scaler: Scaler, lookback: int) -> Market:
    """Return the market with its features scaled over the bars that this window can observe."""
    first = max(0, window.train_first - lookback + 1)
    return scale_market(ground.market, scaler, first, window.test_last + 1)


def conclude(
    spec: StudySpec, ground: Ground, measured: Sequence[Sequence[Measured]], pruned_at: int | None
) -> TrialResult:
    """Score the windows [repeat][window]."""
    result = score(
        spec.score,
        _returns(measured),
        trades=[sum(window.metrics.trades for window in repeat) for repeat in measured],
        ruined=[any(window.ruined for window in repeat) for repeat in measured],
        sessions_per_year=ground.market.sessions_per_year,
    )
    return TrialResult(tuple(tuple(repeat) for repeat in measured), result, pruned_at)


def _returns(measured: Sequence[Sequence[Measured]]) -> list[list[FloatArray]]:
    return [[window.returns for window in repeat] for repeat in measured]
