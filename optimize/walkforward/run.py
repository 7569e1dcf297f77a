"""One run from data to score: market -> windows -> train -> rollout -> score."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from envs.stress import NO_STRESS, Stress
from envs.types import FloatArray, Market
from optimize.agents.agent import Agent
from optimize.agents.engines import Engine, local_engine
from optimize.agents.sb3.train import train
from optimize.agents.threads import limit_threads
from optimize.data.features import reads_volume
from optimize.data.market import refuse_leaking_features
from optimize.data.quality.report import enforce_report, inspect_bars
from optimize.data.sources.read_once import reading_once
from optimize.evaluate.baselines import TURNOVERS, Baseline, measure_baselines
from optimize.evaluate.drawdowns import session_levels
from optimize.evaluate.metrics import (
    YearMetrics,
    by_year,
    measure,
    session_returns,
    sharpe_ratio,
)
from optimize.evaluate.rollout import replay_without_costs, rollout
from optimize.evaluate.score import Score, running_score, score
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades, trades_table
from optimize.evaluate.windows import Window, parts_of_sessions
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window, observe_window
from optimize.walkforward.probe import evaluate_probe
from optimize.walkforward.representation import Representation
from optimize.walkforward.spec import RunSpec, agent_of_window
from optimize.walkforward.validation import sharpe_on, train_span_of, validation_of


@dataclass(frozen=True, eq=False)
class WindowModel:
    """The agent of one window with the representation of the market that it observes."""

    agent: Agent
    representation: Representation


@dataclass(frozen=True, eq=False)
class TrialResult:
    """The results of all windows of a trial, [repeat][window], and their score."""

    measured: tuple[tuple[WindowResult, ...], ...]
    score: Score
    pruned_at: int | None  # the window after which the pruner stopped the trial


SINGLE_RUN = 0  # in the seeds, in place of a trial number
_LOG = logging.getLogger(__name__)
WindowKey = tuple[int, int]  # window, repeat
Keep = Callable[[Window, int, WindowModel, WindowResult, Trades], None]
Report = Callable[[int, float], bool]


def run_trial(
    spec: RunSpec,
    windowed: WindowedMarket,
    entropy: Sequence[int],
    *,
    keep: Keep,
    report: Report,
    engine: Engine | None = None,
    finished: Mapping[WindowKey, WindowResult] | None = None,
) -> TrialResult:
    """Train and evaluate window after window; results in `finished`, of a lost run, are not computed again.

    `keep` stores each window before the next starts; `report(window, running score)` returns True to stop.
    Without `engine` it is the one of this process's device.
    """
    engine = engine or local_engine(spec.agent)
    done = dict(finished or {})
    repeats = range(spec.score.repeats)
    for window in windowed.windows:
        for repeat in repeats:
            if (window.index, repeat) not in done:
                seed = seed_of(entropy, window.index, repeat)
                model, result, trades = run_window(spec, windowed, window, seed, engine)
                keep(window, repeat, model, result, trades)
                done[window.index, repeat] = result
        last = window.index == len(windowed.windows) - 1
        so_far = [[done[w, repeat] for w in range(window.index + 1)] for repeat in repeats]
        value = running_score(spec.score, _returns(so_far), windowed.market.sessions_per_year)
        if value is not None and report(window.index, value) and not last:
            return conclude(spec, windowed, so_far, pruned_at=window.index)
    return conclude(spec, windowed, so_far, pruned_at=None)


def seed_of(entropy: Sequence[int], window: int, repeat: int) -> int:
    """Return the 32-bit seed of one training: SeedSequence([study seed, trial, window, repeat])."""
    return int(np.random.SeedSequence([*entropy, window, repeat]).generate_state(1)[0])


def run_window(
    spec: RunSpec, windowed: WindowedMarket, window: Window, seed: int, engine: Engine | None = None
) -> tuple[WindowModel, WindowResult, Trades]:
    """Fit the representation and the agent on the purged train span, then evaluate on the test span."""
    started = time.perf_counter()
    representation, market = fit_to_window(spec, windowed, window)
    split = train_span_of(spec, market, window)
    agent = train(
        agent_of_window(spec, split.learned[1] - split.learned[0] + 1),
        market,
        split.learned,
        env=spec.env,
        cost=spec.cost,
        reward=spec.reward,
        lookback=spec.feature.lookback,
        seed=seed,
        training=spec.train,
        engine=engine,
        validate=validation_of(spec, market, split),
    )
    result, trades = _evaluate(spec, market, window, agent)
    result = _with_in_sample(spec, market, window, agent, result)
    return WindowModel(agent, representation), replace(result, seconds=time.perf_counter() - started), trades


def evaluate_window(
    spec: RunSpec,
    windowed: WindowedMarket,
    window: Window,
    model: WindowModel,
    stress: Stress = NO_STRESS,
    *,
    in_sample: bool = False,
) -> tuple[WindowResult, Trades]:
    """Run a trained agent over the test span of a window, net and at zero cost; return its trades as well.

    in_sample: measure its Sharpe ratio on the train span too.
    """
    started = time.perf_counter()
    market = observe_window(windowed, window, model.representation, spec.feature)
    result, trades = _evaluate(spec, market, window, model.agent, stress)
    if in_sample:
        result = _with_in_sample(spec, market, window, model.agent, result)
    return replace(result, seconds=time.perf_counter() - started), trades


def _evaluate(
    spec: RunSpec, market: Market, window: Window, agent: Agent, stress: Stress = NO_STRESS
) -> tuple[WindowResult, Trades]:
    """Evaluate on the scaled market; the caller fills in the duration."""
    span = (window.test_first, window.test_last)
    env, reward, lookback = spec.env, spec.reward, spec.feature.lookback
    cost = spec.cost
    net = rollout(agent, market, [span], env=env, cost=cost, reward=reward, lookback=lookback, stress=stress)
    free = replay_without_costs(
        net, market, env=env, reward=reward, lookback=lookback, stress=stress, cash_rate=cost.cash_rate
    )
    result = WindowResult(
        metrics=measure(market, window, net[0], free[0], market.sessions_per_year, spec.score.risk_free),
        returns=session_returns(market, net[0], window),
        free_returns=session_returns(market, free[0], window),
        ruined=net[0].ruined,
        reward_active_share=agent.reward_active_share,
        trained_steps=agent.trained_steps,
        sharpe_validation=agent.sharpe_validation,
        levels=session_levels(market, net[0], window),
    )
    return result, trades_table(net[0], market, env.fill)


def _with_in_sample(
    spec: RunSpec, market: Market, window: Window, agent: Agent, result: WindowResult
) -> WindowResult:
    """Return the result with the Sharpe ratio of the same policy on the bars that it learned from."""
    first, last = train_span_of(spec, market, window).learned
    sharpe = sharpe_on(spec, market, agent, parts_of_sessions(market, first + 1, last))
    known = float(sharpe) if np.isfinite(sharpe) else None
    return replace(result, metrics=replace(result.metrics, sharpe_in_sample=known))


def conclude(
    spec: RunSpec, windowed: WindowedMarket, measured: Sequence[Sequence[WindowResult]], pruned_at: int | None
) -> TrialResult:
    """Score the windows [repeat][window]."""
    result = score(
        spec.score,
        _returns(measured),
        trades=[sum(window.metrics.trades for window in repeat) for repeat in measured],
        ruined=[any(window.ruined for window in repeat) for repeat in measured],
        sessions_per_year=windowed.market.sessions_per_year,
    )
    return TrialResult(tuple(tuple(repeat) for repeat in measured), result, pruned_at)


def years_of(
    windowed: WindowedMarket, measured: Sequence[Sequence[WindowResult]], risk_free: float
) -> list[YearMetrics]:
    """Return the metrics of each calendar year, of the repeat whose Sharpe ratio is the lower median."""
    market = windowed.market
    sessions = [market.session_date[slice(*window.test_sessions)] for window in windowed.windows]
    joined = [np.concatenate([window.returns for window in row]) for row in measured]
    ratios = [sharpe_ratio(row, market.sessions_per_year, risk_free) for row in joined]
    median = int(np.argsort(ratios, kind="stable")[(len(ratios) - 1) // 2])
    dates = np.concatenate(sessions)[: len(joined[median])]
    return by_year(joined[median], dates, market.sessions_per_year, risk_free)


def _returns(measured: Sequence[Sequence[WindowResult]]) -> list[list[FloatArray]]:
    return [[window.returns for window in repeat] for repeat in measured]


@dataclass(frozen=True, eq=False)
class WalkForward:
    """The outcome of one configuration: windows, test results [repeat][window], score and baselines."""

    windows: tuple[Window, ...]
    results: tuple[tuple[WindowResult, ...], ...]
    score: Score
    baselines: tuple[Baseline, ...]


def walk_forward(
    spec: RunSpec,
    *,
    seed: int | None = None,
    cache_dir: Path | None = None,
    threads: int = 1,
    keep: Keep | None = None,
) -> WalkForward:
    """Train and evaluate one configuration window by window, without a search, a database or files.

    seed: None takes that of the spec, of a study or of `walkforge walk-forward`, else 0. cache_dir: folder
    of memory-mapped markets; None builds the market in memory. threads: one thread adds numbers in the same
    order each time. keep(window, repeat, model, result, trades) is called after each training. Bars that the
    quality checks refuse, windows that do not fit and features that read the future raise BadInputError.
    """
    limit_threads(threads)
    entropy = [int(getattr(spec, "seed", 0)) if seed is None else seed, SINGLE_RUN]
    with reading_once():
        found = inspect_bars(spec.data, spec.session)
        enforce_report(found, _LOG.info, reads_volume=reads_volume(spec.feature.indicators))
        windowed = build_windowed_market(spec, cache_dir)
        refuse_leaking_features(spec.data, spec.feature, spec.session)
    result = run_trial(spec, windowed, entropy, keep=keep or _drop, report=lambda step, value: False)
    probe = evaluate_probe(spec, windowed).baseline
    baselines = (*evaluate_baselines(spec, windowed, entropy[0]), probe)
    return WalkForward(windowed.windows, result.measured, result.score, baselines)


def _drop(window: Window, repeat: int, model: WindowModel, result: WindowResult, trades: Trades) -> None:
    """Keep nothing of a window but its result."""


def evaluate_baselines(
    spec: RunSpec, windowed: WindowedMarket, seed: int, turnovers: Sequence[float] = TURNOVERS
) -> tuple[Baseline, ...]:
    """Evaluate flat, buy-and-hold and random policies on the same windows at the same costs."""
    return measure_baselines(
        windowed.market,
        windowed.windows,
        env=spec.env,
        cost=spec.cost,
        lookback=spec.feature.lookback,
        score_spec=spec.score,
        seed=seed,
        turnovers=turnovers,
    )
