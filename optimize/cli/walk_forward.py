"""`walkforge walk-forward`."""

import dataclasses
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs.plain import to_plain
from optimize.agents.threads import limit_threads
from optimize.atomic import replacing_folder
from optimize.cli.checked_market import checked_market
from optimize.cli.window_results import show_result, spell_test_span
from optimize.data.sources.read_once import reading_once
from optimize.database import Engine, open_engine
from optimize.errors import BadInputError
from optimize.evaluate.baselines import Baseline
from optimize.evaluate.captions import BUY_AND_HOLD, better_baseline
from optimize.evaluate.summary import WindowResult, summarise
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, train_start
from optimize.report.format import format_score, percent
from optimize.report.gates import mark_lines
from optimize.report.probe import probe_line
from optimize.report.run_luck import luck_of_run
from optimize.report.tables import Column, say, show
from optimize.report.verdict import luck_lines
from optimize.results.creation import create_tables
from optimize.results.instrument_names import instruments_of
from optimize.results.outcome import beside_probe, marks_of
from optimize.results.states import TryKind
from optimize.results.tries import Try, count_tries, record_try
from optimize.results.views import refuse_foreign
from optimize.schemas.studies import WalkForwardConfig, to_spec
from optimize.study.holdout import enter_holdout, with_kept_holdout
from optimize.study.launch.markets import training_engine
from optimize.study.spec import StudySpec
from optimize.study.workers.gpus import devices_of
from optimize.walkforward.files import window_folder, write_json, write_window
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.probe import evaluate_probe
from optimize.walkforward.run import (
    TrialResult,
    WindowKey,
    WindowModel,
    conclude,
    evaluate_baselines,
    evaluate_window,
    run_trial,
    seed_of,
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


def show_walk_forward(config: WalkForwardConfig) -> int:
    """Evaluate one configuration window by window; 1 where it has no score."""
    limit_threads(1)  # as in a worker: the numbers of a study come out here too
    spec = to_spec(config)
    devices_of(spec)  # or its agent cannot be trained here
    with reading_once():
        spec, windowed = checked_market(spec)
    if config.dry_run:
        _show_plan(windowed)
        return 0
    folder = spec.folder / "walk_forward"
    if folder.exists():
        other = _on_other_data(folder, spec)
        say(f"{folder} holds an earlier run{other}, which this one replaces when it is done")
    for line in training_engine(spec):
        say(line)
    result = _run(spec, windowed, folder, config.deterministic)
    baselines = evaluate_baselines(spec, windowed, spec.seed)
    probe = evaluate_probe(spec, windowed).baseline
    title = f"{spec.name}: {spec.agent.name} window by window"
    show_result(spec, windowed, result, (*baselines, probe), title)
    total = summarise(result.measured, windowed.market.sessions_per_year, spec.score.risk_free)
    for line in mark_lines(*marks_of(spec, windowed, result, spec.gate, total["sharpe"])):
        say(line)
    for line in _luck_lines(spec, windowed, result, baselines):
        say(line)
    say(f"models and returns: {folder}")
    score = result.score.value
    if score is not None and (best := better_baseline(baselines, score)) is not None:
        say(f"{spec.agent.name} does not beat the baseline {best.name}: nothing here is worth trading")
    year = windowed.market.sessions_per_year
    beside = beside_probe(result.measured, np.concatenate(probe.returns), year) | {"probe_score": probe.score}
    if (earned := probe_line(spec.agent.name, score, beside)) is not None:
        say(earned)
    return _verdict(result)


def _luck_lines(
    spec: StudySpec, windowed: WindowedMarket, result: TrialResult, baselines: Sequence[Baseline]
) -> list[str]:
    """Return the verdict on this configuration, after all tries on its instrument and dates."""
    dates = [window.dates for window in windowed.windows]
    symbols = instruments_of(to_plain(spec.data), windowed.market.symbols)
    engine = open_engine(spec.database.url, read_only=True)
    try:
        with engine.connect() as conn:
            tries = count_tries(conn, symbols, dates[0].test_start, dates[-1].test_end)
    finally:
        engine.dispose()
    hold = next(each for each in baselines if each.name == BUY_AND_HOLD)
    test = luck_of_run(
        [np.concatenate([window.returns for window in repeat]) for repeat in result.measured],
        np.concatenate(hold.returns),
        tries,
        windowed.market.sessions_per_year,
        spec.score.risk_free,
    )
    return luck_lines(test)


def _on_other_data(folder: Path, spec: StudySpec) -> str:
    """Return the words for an earlier run on other data, nothing for one on the same."""
    try:
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):  # it was interrupted, or its file is damaged
        return ""
    now = to_plain(spec)["data"]
    keys = [key for key in ("provider", "path", "symbols") if before.get(key) != now[key]]
    changed = ", ".join(f"data.{key}={before.get(key)}" for key in keys)
    return f" on other data ({changed})" if changed else ""


def _run(spec: StudySpec, windowed: WindowedMarket, folder: Path, deterministic: bool) -> TrialResult:
    """Train every window into a folder that replaces the earlier one when all are done."""
    engine = open_engine(spec.database.url, busy_timeout_s=spec.database.busy_timeout_s)
    try:
        refuse_foreign(engine)
        create_tables(engine)  # before the training: it is counted as a try by its first window
        if with_kept_holdout(spec, windowed, keep=False) != spec:
            raise BadInputError(
                "a study cut a holdout of these bars while this run was prepared: give the same command again"
            )
        enter_holdout(spec, engine, windowed, say, keep=False)
        with replacing_folder(folder) as partial:
            return _train(spec, windowed, partial, deterministic, engine)
    finally:
        engine.dispose()


def _train(
    spec: StudySpec, windowed: WindowedMarket, folder: Path, deterministic: bool, engine: Engine
) -> TrialResult:
    """Train and evaluate every window; write its files and the configuration into a folder."""
    sampled: dict[WindowKey, WindowResult] = {}
    run_uuid, symbols = str(uuid.uuid4()), instruments_of(to_plain(spec.data), windowed.market.symbols)
    total = len(windowed.windows) * spec.score.repeats

    def keep(
        window: Window, repeat: int, trained: WindowModel, measured: WindowResult, trades: Trades
    ) -> None:
        if not deterministic:
            measured, trades = _sample(spec, windowed, window, repeat, trained)
            sampled[window.index, repeat] = measured
        sessions = windowed.market.session_date[slice(*window.test_sessions)]
        write_window(window_folder(folder, window.index, repeat), sessions, trained, measured, trades)
        dates = window.dates
        tried = Try(
            run_uuid, TryKind.WALK_FORWARD, spec.name, symbols, first=dates.test_start, end=dates.test_end
        )
        with engine.begin() as conn:
            record_try(conn, tried)
        done = window.index * spec.score.repeats + repeat + 1
        say(f"window {window.index}, repeat {repeat}: {_told(measured)} [{done}/{total}]")

    result = run_trial(spec, windowed, [spec.seed, TRIAL], keep=keep, report=lambda step, value: False)
    if sampled:
        repeats, windows = range(spec.score.repeats), range(len(windowed.windows))
        result = conclude(spec, windowed, [[sampled[w, r] for w in windows] for r in repeats], pruned_at=None)
    write_json(folder / "config.json", to_plain(spec))
    return result


def _sample(
    spec: StudySpec, windowed: WindowedMarket, window: Window, repeat: int, trained: WindowModel
) -> tuple[WindowResult, Trades]:
    """Evaluate the policy once more with its actions sampled."""
    agent = trained.agent.stochastic(seed_of([spec.seed, TRIAL], window.index, repeat))
    model = dataclasses.replace(trained, agent=agent)
    return evaluate_window(spec, windowed, window, model)


def _told(measured: WindowResult) -> str:
    metrics = measured.metrics
    return (
        f"Sharpe {format_score(metrics.sharpe)}, return {percent(metrics.total_return)}, "
        f"{metrics.trades} trades ({measured.seconds:.1f} s)"
    )


def _show_plan(windowed: WindowedMarket) -> None:
    rows = [
        {
            "window": window.index,
            "train": f"{train_start(window, windowed.market)} .. {window.dates.train_end}",
            "train_bars": window.train_last - window.train_first + 1,
            "purge": window.purge_bars,
            "test": spell_test_span(window),
            "test_bars": window.test_last - window.test_first + 1,
            "sessions": window.dates.test_sessions,
        }
        for window in windowed.windows
    ]
    market = windowed.market
    show(rows, PLAN_COLUMNS, "table", f"{', '.join(market.symbols)} {market.timeframe}: {len(rows)} windows")
    first, data = train_start(windowed.windows[0], market), market.session_date[0]
    if first > data:
        say(
            f"the data begin on {data}; what comes before {first} settles the features and the first lookback"
        )
    if windowed.plan.holdout:
        first, end = windowed.plan.holdout
        say(f"holdout: {first} .. {end}, in no window")
    say("dry run: nothing was trained")


def _verdict(result: TrialResult) -> int:
    return 0 if result.score.feasible else 1
