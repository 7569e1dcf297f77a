"""Small studies on synthetic markets, claimed and run in this process, and queries of their database."""

import dataclasses
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import update

from envs.spec import EnvSpec
from optimize.agents.engines import Engine
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import DatabaseSpec, database_path, is_sqlite, open_engine
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, WindowSpec
from optimize.results.records import RunRecord
from optimize.results.runs import run_of_trial
from optimize.results.tables import LEASES
from optimize.search.spec import PrunerSpec, SamplerSpec
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec, WorkerSpec, resolve
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.study.workers.process import market_builder
from optimize.walkforward import run as trial_module
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import WindowModel

OPENED: list[StudyContext] = []  # closed after each test: a server's connections must not be dropped open
Change = Callable[[WindowResult, StudySpec, Window], WindowResult]
PLACEHOLDER = re.compile(r":(\w+)")  # as SQLite writes it
PPO = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "gamma": 0.99}
SPACE = {"agent": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}}


def small_spec(folder: Path, **changes: Any) -> StudySpec:
    """Return a study whose trials take a fraction of a second."""
    spec = StudySpec(
        name="small",
        n_trials=4,
        preflight=False,
        output_dir=str(folder / "studies"),
        data=DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=1440)),
        feature=FeatureSpec(lookback=2, indicators=["returns"]),
        env=EnvSpec(rebalance_band=0.0),  # else an agent that learned little never trades
        agent=AgentSpec(total_timesteps=64, n_envs=2, net="tiny", engine="stock", hyperparameters=PPO),
        space=SPACE,
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=20),
        score=ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0),
        sampler=SamplerSpec(n_startup_trials=2),
        pruner=PrunerSpec(name="none"),
        gate=ResultGateSpec(opposite_sign=False, constant_policy=False),  # it learned next to nothing
        database=DatabaseSpec(url=f"sqlite:///{folder / 'walkforge.db'}"),
        worker=WorkerSpec(count=2),
    )
    return resolve(dataclasses.replace(spec, **changes))


def ray_spec(folder: Path, **changes: Any) -> StudySpec:
    """Return the same study for a Ray cluster."""
    spec = small_spec(folder, worker=WorkerSpec(kind="ray", **changes))
    return dataclasses.replace(spec, agent=dataclasses.replace(spec.agent, device="cpu"))


def opened(spec: StudySpec) -> StudyContext:
    """Open and enroll a study as the runner does."""
    context = open_study(spec)
    OPENED.append(context)
    enroll(context, ground_of(context, spec))
    return context


def ground_of(context: StudyContext, spec: StudySpec) -> WindowedMarket:
    return market_builder(context)(spec)


def claimed(context: StudyContext, worker: int = 0) -> Claim:
    """Claim a trial that must be there."""
    found = claim(context, worker, market_builder(context))
    assert isinstance(found, Claim), found
    return found


def never() -> bool:
    return False


def play(context: StudyContext, limit: int | None = None) -> NoTrial | None:
    """Run trials one after another, as one worker does; return why there is none left."""
    lay = market_builder(context)
    done = 0
    while limit is None or done < limit:
        found = claim(context, 0, lay)
        if isinstance(found, NoTrial):
            return found
        perform(context, found, never)
        done += 1
    return None


def states(context: StudyContext) -> Counter[str]:
    return Counter(trial.state.name for trial in context.study.get_trials(deepcopy=False))


def run_of(context: StudyContext, number: int) -> RunRecord:
    with context.engine.connect() as conn:
        run = run_of_trial(conn, context.spec.name, number)
    assert run is not None
    return run


def rows(spec: StudySpec, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the study's database."""
    if not is_sqlite(spec.database.url):
        with psycopg.connect(spec.database.url) as server:
            return server.execute(PLACEHOLDER.sub(r"%(\1)s", sql).encode(), values).fetchall()
    with closing(sqlite3.connect(database_path(spec.database.url), timeout=60)) as conn:
        return conn.execute(sql, values).fetchall()


def expire(spec: StudySpec, number: int) -> None:
    """Make the lease of a trial look as if its owner had died an hour ago."""
    engine = open_engine(spec.database.url)
    with engine.begin() as conn:
        of_trial = update(LEASES).where(LEASES.c.trial_number == number)
        conn.execute(of_trial.values(renewed_at=LEASES.c.renewed_at - 3600, process_started=1.0))
    engine.dispose()


def change_windows(monkeypatch: pytest.MonkeyPatch, change: Change) -> list[int]:
    """Let `change` replace the result of each window; return the list of windows as they run."""
    real, ran = trial_module.run_window, []

    def run_window(
        spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int, engine: Engine
    ) -> tuple[WindowModel, WindowResult, Trades]:
        trained, measured, trades = real(spec, windowed, window, seed, engine)
        ran.append(window.index)
        return trained, change(measured, spec, window), trades

    monkeypatch.setattr(trial_module, "run_window", run_window)
    return ran


def unchanged(measured: WindowResult, spec: StudySpec, window: Window) -> WindowResult:
    return measured


def with_sharpe(measured: WindowResult, mean: float) -> WindowResult:
    """Replace the returns by alternating ones around a mean: a score as good or bad as asked for."""
    returns = np.full(len(measured.returns), mean)
    returns[::2] += 0.01
    returns[1::2] -= 0.01
    return dataclasses.replace(measured, returns=returns)
