"""`walkforge walk-forward`."""

import dataclasses
import shutil
from pathlib import Path

from optimize.agents.threads import limit_threads
from optimize.cli.tables import (
    Column,
    percent,
    say,
    show,
    signed,
)
from optimize.cli.window_results import show_result, spell_test_span
from optimize.compose import WalkForwardConfig, to_spec
from optimize.data.dataset import refuse_leaking_features
from optimize.data.describe import source_line, source_of
from optimize.data.features import reads_volume
from optimize.data.quality.report import enforce, inspect
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, train_start
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


def walk_forward(config: WalkForwardConfig) -> int:
    """Evaluate one configuration window by window; 1 where it has no score."""
    limit_threads(1)  # as in a worker: the numbers of a study come out here too
    spec = to_spec(config)
    devices_of(spec)  # or its agent cannot be trained here
    report = inspect(spec.data, spec.session)
    if report.coverage:
        say(source_line(source_of(report, spec.data)))
    enforce(report, say, reads_volume=reads_volume(spec.feature.indicators))
    ground = lay_ground(spec, cache_dir(spec))
    refuse_leaking_features(spec.data, spec.feature, spec.session)
    if config.dry_run:
        _show_plan(ground)
        return 0
    folder = spec.folder / "walk_forward"
    if folder.exists():
        say(f"{folder} holds an earlier run, which this one replaces when it is done")
    for line in training_words(spec):
        say(line)
    result = _run(spec, ground, folder, config.deterministic)
    show_result(
        spec, ground, result, yardsticks(spec, ground), f"{spec.name}: {spec.agent.name} window by window"
    )
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
            "test": spell_test_span(window),
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


def _verdict(result: TrialResult) -> int:
    return 0 if result.score.feasible else 1
