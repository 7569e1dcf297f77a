"""`walkforge walk-forward`."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from optimize.agents.threads import limit_threads
from optimize.cli.tables import (
    COST_UNIT,
    EXPOSURE,
    FILLS,
    Column,
    number,
    percent,
    say,
    share,
    short,
    show,
    signed,
)
from optimize.compose import WalkForwardConfig, to_spec
from optimize.data.quality.report import enforce, inspect
from optimize.evaluate.baselines import BOUGHT_ANEW, Baseline
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, train_start
from optimize.study.claims.perform import aggregate
from optimize.study.devices import devices_of
from optimize.study.files import window_folder, write_json, write_window
from optimize.study.grounds import training_words
from optimize.study.handle import cache_dir
from optimize.study.spec import StudySpec, to_plain
from optimize.study.trial import (
    Ground,
    Key,
    Measured,
    Trained,
    TrialResult,
    conclude,
    evaluate_window,
    lay_ground,
    run_trial,
    seed_of,
    yardsticks,
)

TRIAL = 0  # stands for the trial number in the seeds
PLAN_COLUMNS = (
    Column("window", "window"),
    Column("train", "train (end exclusive)", right=False),
    Column("train_bars", "bars"),
    Column("purge", "purged bars"),
    Column("test", "test (end exclusive)", right=False),
    Column("test_bars", "bars"),
    Column("sessions", "sessions"),
)
WINDOW_COLUMNS = (
    Column("window", "window"),
    Column("repeat", "repeat"),
    Column("test", "test (end exclusive)", right=False),
    Column("sharpe", "Sharpe", signed()),
    Column("sharpe_zero_cost", "no-cost Sharpe", signed()),
    Column("total_return", "return", percent),
    Column("max_drawdown", "drawdown", percent),
    Column("cost", "cost", share),
    Column("trades", "trades", short),
    Column("exposure", "exposure", number()),
    Column("seconds", "seconds", number(1)),
)
FORCED_COLUMN = Column("forced_exits", "forced exits", short)  # shown where sessions end flat
ACTIVE_COLUMN = Column("reward_active_share", "reward active", share)  # shown of a differential reward
SUMMARY_COLUMNS = (
    Column("name", "policy", right=False),
    Column("score", "score", signed()),
    Column("standard_error", "std err", number()),
    Column("sharpe_zero_cost", "no-cost Sharpe", signed()),
    Column("total_return", "return", percent),
    Column("cost", "cost", share),
    Column("turnover", "turnover", number(1)),
)


def walk_forward(config: WalkForwardConfig) -> int:
    """Evaluate one configuration window by window; 1 where it has no score."""
    limit_threads(1)  # as in a worker: the numbers of a study come out here too
    spec = to_spec(config)
    devices_of(spec)  # or its agent cannot be trained here
    enforce(inspect(spec.data, spec.session), say)
    ground = lay_ground(spec, cache_dir(spec))
    if config.dry_run:
        _show_plan(ground)
        return 0
    folder = spec.folder / "walk_forward"
    if folder.exists():
        say(f"{folder} holds an earlier run, which this one replaces when it is done")
    for line in training_words(spec):
        say(line)
    result = _run(spec, ground, folder, config.deterministic)
    _show_result(spec, ground, result)
    say(f"models and returns: {folder}")
    return _verdict(result)


def _run(spec: StudySpec, ground: Ground, folder: Path, deterministic: bool) -> TrialResult:
    """Train every window into a folder that replaces the earlier one when all are done."""
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    sampled: dict[Key, Measured] = {}
    total = len(ground.windows) * spec.score.repeats

    def keep(window: Window, repeat: int, trained: Trained, measured: Measured, trades: Trades) -> None:
        if not deterministic:
            measured, trades = _sample(spec, ground, window, repeat, trained)
            sampled[window.index, repeat] = measured
        sessions = ground.market.session_date[slice(*window.test_sessions)]
        write_window(window_folder(aside, window.index, repeat), sessions, trained, measured, trades)
        done = window.index * spec.score.repeats + repeat + 1
        say(f"window {window.index}, repeat {repeat}: {_told(measured)} [{done}/{total}]")

    result = run_trial(spec, ground, [spec.seed, TRIAL], keep=keep, report=lambda step, value: False)
    if sampled:
        repeats, windows = range(spec.score.repeats), range(len(ground.windows))
        result = conclude(spec, ground, [[sampled[w, r] for w in windows] for r in repeats], pruned_at=None)
    write_json(aside / "config.json", to_plain(spec))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return result


def _sample(
    spec: StudySpec, ground: Ground, window: Window, repeat: int, trained: Trained
) -> tuple[Measured, Trades]:
    """Evaluate the policy once more with its actions sampled."""
    agent = trained.agent.stochastic(seed_of([spec.seed, TRIAL], window.index, repeat))
    return evaluate_window(spec, ground, window, dataclasses.replace(trained, agent=agent))


def _told(measured: Measured) -> str:
    metrics = measured.metrics
    return (
        f"Sharpe {signed()(metrics.sharpe)}, return {percent(metrics.total_return)}, "
        f"{metrics.trades} trades ({measured.seconds:.1f} s)"
    )


def _show_plan(ground: Ground) -> None:
    rows = [
        {
            "window": window.index,
            "train": f"{train_start(window, ground.market)} .. {window.dates.train_end}",
            "train_bars": window.train_last - window.train_first + 1,
            "purge": window.purge_bars,
            "test": _test_span(window),
            "test_bars": window.test_last - window.test_first + 1,
            "sessions": window.dates.test_sessions,
        }
        for window in ground.windows
    ]
    market = ground.market
    show(rows, PLAN_COLUMNS, "table", f"{', '.join(market.symbols)} {market.timeframe}: {len(rows)} windows")
    first, data = train_start(ground.windows[0], market), market.session_date[0]
    if first > data:
        say(
            f"the data begin on {data}; what comes before {first} settles the features and the first lookback"
        )
    if ground.plan.holdout:
        first, end = ground.plan.holdout
        say(f"holdout: {first} .. {end}, in no window")
    say("dry run: nothing was trained")


def _show_result(spec: StudySpec, ground: Ground, result: TrialResult) -> None:
    rows = [
        {
            **dataclasses.asdict(measured.metrics),
            "window": window.index,
            "repeat": repeat,
            "test": _test_span(window),
            "seconds": measured.seconds,
            "reward_active_share": measured.reward_active_share,
        }
        for repeat, row in enumerate(result.measured)
        for window, measured in zip(ground.windows, row, strict=True)
    ]
    baselines = yardsticks(spec, ground)
    anew = any(baseline.bought_anew for baseline in baselines)
    active = any(row["reward_active_share"] is not None for row in rows)
    columns = [*WINDOW_COLUMNS, *[FORCED_COLUMN] * anew, *[ACTIVE_COLUMN] * active]
    show(rows, columns, "table", f"{spec.name}: {spec.agent.name} window by window")
    total = aggregate(result, ground.market.sessions_per_year, spec.score.risk_free)
    agent = {"name": spec.agent.name, "score": result.score.value, **total}
    agent["standard_error"] = result.score.standard_error
    show([agent, *map(_baseline_row, baselines)], SUMMARY_COLUMNS, "table", "beside what needs no learning")
    say(
        f"score ({spec.score.kind}): annualised Sharpe ratio of the session returns, net of all costs "
        f"({spec.cost.describe()}, and financing){FILLS[spec.env.fill]}"
    )
    say(f"{COST_UNIT}; {EXPOSURE}")
    if active:
        say(f"reward active: share of the training steps on which no bound of {spec.reward.name} bound")
    if result.score.reason is not None:
        say(f"no score: {result.score.reason}")


def _baseline_row(baseline: Baseline) -> dict[str, Any]:
    return {
        "name": _label(baseline),
        "score": baseline.score,
        "sharpe_zero_cost": baseline.sharpe_zero_cost,
        "total_return": baseline.total_return,
        "cost": baseline.cost,
        "turnover": sum(window.turnover for window in baseline.windows),
    }


def _label(baseline: Baseline) -> str:
    drawn = "" if baseline.turnover is None else f" (new target at {baseline.turnover:.0%} of the bars)"
    anew = f" ({BOUGHT_ANEW})" if baseline.bought_anew else ""
    return baseline.name.replace("_", " ") + drawn + anew


def _test_span(window: Window) -> str:
    return f"{window.dates.test_start} .. {window.dates.test_end}"


def _verdict(result: TrialResult) -> int:
    return 0 if result.score.feasible else 1
