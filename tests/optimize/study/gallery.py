"""A small real study for the dashboard: real Optuna, real records, returns from a seeded generator."""

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
from optuna.trial import Trial

from envs.plain import to_plain
from envs.types import FloatArray
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec
from optimize.database import DatabaseSpec
from optimize.evaluate.metrics import WindowMetrics
from optimize.evaluate.summary import WindowResult
from optimize.results.leases import Lease, acquire, release
from optimize.results.records import (
    BaselineRecord,
    Outcome,
    RunRecord,
    WindowRecord,
    load_baselines,
    save_baselines,
)
from optimize.results.runs import finish_run, save_window, start_run, windows_of
from optimize.results.states import RunState
from optimize.study.context import StudyContext, open_study
from optimize.study.dashboard.attach import attach_report
from optimize.study.spec import StudySpec
from optimize.walkforward.files import RETURNS, run_folder, window_folder, write_returns

STORED = {each.name for each in dataclasses.fields(WindowRecord)} - {"forced_exits"}  # columns of a window
WINDOWS, SESSIONS = 3, 40
FIRST = np.datetime64("2017-06-01")
SPACE = {"agent": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}}


def make_context(folder: Path, name: str = "gallery.model") -> StudyContext:
    spec = StudySpec(
        name=name,
        n_trials=3,
        output_dir=str(folder / "studies"),
        data=DataSpec(timeframe="1h"),
        space=SPACE,
        database=DatabaseSpec(url=f"sqlite:///{folder / 'gallery.db'}"),
    )
    context = open_study(spec)
    with context.engine.begin() as conn:
        save_baselines(conn, [make_hold(name)])
    return context


def close(context: StudyContext) -> None:
    context.close()


def make_hold(study: str) -> BaselineRecord:
    returns = np.random.default_rng(99).normal(0.0002, 0.006, WINDOWS * SESSIONS)
    days = (FIRST + np.arange(WINDOWS * SESSIONS)).astype(str).tolist()
    edges = [(0, 30), (30, 80), (80, WINDOWS * SESSIONS)]  # windows may differ in length
    series = {
        "sessions": [days[first:end] for first, end in edges],
        "returns": [returns[first:end].tolist() for first, end in edges],
    }
    return BaselineRecord(study, "1h", "buy_and_hold", 0.41, 0.42, 0.021, 0.0006, 2.0, series)


def make_measured(returns: FloatArray) -> WindowResult:
    metrics = WindowMetrics(
        sharpe=float(np.mean(returns) / np.std(returns) * 16), sharpe_zero_cost=1.9, turnover=31.0,
        total_return=float(np.prod(1 + returns) - 1), max_drawdown=-0.031, volatility=0.09, cost=0.0042,
        trades=24, exposure=0.6, bars=960, sessions=len(returns),
    )  # fmt: skip
    return WindowResult(metrics=metrics, returns=returns, free_returns=returns, ruined=False, seconds=0.1)


def store_window(
    context: StudyContext, lease: Lease, window: int, repeat: int, measured: WindowResult
) -> None:
    """Write the returns of one window and its row, as a worker does."""
    sessions = FIRST + window * SESSIONS + np.arange(SESSIONS)
    run = run_folder(context.spec.folder, lease.trial_number, lease.run_uuid)
    target = window_folder(run, window, repeat)
    target.mkdir(parents=True)
    write_returns(target / RETURNS, sessions, measured)
    metrics = dataclasses.asdict(measured.metrics)
    record = WindowRecord(
        run_uuid=lease.run_uuid,
        window=window,
        repeat=repeat,
        train_start=date(2017, 1, 2),
        train_end=date(2017, 5, 31),
        test_start=sessions[0].astype(date),
        test_end=sessions[-1].astype(date),
        train_bars=2600,
        test_bars=metrics.pop("bars"),
        seconds=0.1,
        returns_path=str((target / RETURNS).relative_to(context.spec.folder)),
        **{key: value for key, value in metrics.items() if key in STORED},
    )
    with context.engine.begin() as conn:
        save_window(conn, lease, record)


def record_trial(
    context: StudyContext, outcome: Outcome, *, windows: int = WINDOWS, repeats: int = 1, lookback: int = 8
) -> tuple[Trial, RunRecord]:
    """Ask for a trial and store a finished run of it; it is not reported to Optuna yet."""
    trial = context.study.ask()
    rate = trial.suggest_float("agent.learning_rate", 1e-5, 1e-2, log=True)
    spec = dataclasses.replace(context.spec, data=context.spec.data, feature=FeatureSpec(lookback=lookback))
    with context.engine.begin() as conn:
        lease = acquire(conn, context.spec.name, trial.number, worker=0, lease_s=60.0, now=1000.0)
        run = RunRecord(
            run_uuid=lease.run_uuid,
            study_name=context.spec.name,
            trial_number=trial.number,
            parameters={"agent.learning_rate": rate},
            spec=to_plain(spec),
            entropy=[0, trial.number],
            versions={},
            data_fingerprint="0123456789abcdef",
        )
        start_run(conn, lease, run)
    for repeat in range(repeats):
        generator = np.random.default_rng([trial.number, repeat])
        for window in range(windows):
            store_window(
                context, lease, window, repeat, make_measured(generator.normal(0.0006, 0.006, SESSIONS))
            )
    with context.engine.begin() as conn:
        run = finish_run(conn, lease, outcome)
        release(conn, lease)
    return trial, run


def complete(score: float, error: float = 0.42) -> Outcome:
    metrics = {"sharpe_zero_cost": score + 0.3, "turnover": 93.0, "score_error": error}
    return Outcome(RunState.COMPLETE, 2.5, score=score, standard_error=error, metrics=metrics)


def add_trial(context: StudyContext, score: float, *, lookback: int = 8) -> RunRecord:
    """Run a trial to its end: record, decorate, tell."""
    trial, run = record_trial(context, complete(score), lookback=lookback)
    with context.engine.connect() as conn:
        windows, baselines = windows_of(conn, run.run_uuid), load_baselines(conn, context.spec.name)
    attach_report(context, run, windows, baselines)
    context.study.tell(trial, score)
    return run
