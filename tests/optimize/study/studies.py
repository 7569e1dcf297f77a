"""Small studies on synthetic markets, claimed and run in this process, and looks into their database."""

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

from envs.vector import EnvSpec
from optimize.agents.spec import AgentSpec
from optimize.data.spec import DataSpec, FeatureSpec, SyntheticSpec
from optimize.database import DatabaseSpec, database_path, is_sqlite, open_engine
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.trades import Trades
from optimize.evaluate.windows import Window, WindowSpec
from optimize.results.records import RunRecord
from optimize.results.runs import run_of_trial
from optimize.results.tables import LEASES
from optimize.search.pruners import PrunerSpec
from optimize.search.samplers import SamplerSpec
from optimize.study import trial as trial_module
from optimize.study.claims.caps import Claim, Verdict, claim
from optimize.study.claims.perform import perform
from optimize.study.handle import Handle, enroll, open_study
from optimize.study.spec import StudySpec, WorkerSpec, resolve
from optimize.study.trial import Ground, Measured, Trained
from optimize.study.workers.process import ground_source

OPENED: list[Handle] = []  # closed after each test: a server's connections must not be dropped open
Change = Callable[[Measured, StudySpec, Window], Measured]
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
        database=DatabaseSpec(url=f"sqlite:///{folder / 'walkforge.db'}"),
        worker=WorkerSpec(count=2),
    )
    return resolve(dataclasses.replace(spec, **changes))


def ray_spec(folder: Path, **changes: Any) -> StudySpec:
    """Return the same study for a Ray cluster."""
    spec = small_spec(folder, worker=WorkerSpec(kind="ray", **changes))
    return dataclasses.replace(spec, agent=dataclasses.replace(spec.agent, device="cpu"))


def opened(spec: StudySpec) -> Handle:
    """Open and enroll a study as the runner does."""
    handle = open_study(spec)
    OPENED.append(handle)
    enroll(handle, ground_of(handle, spec))
    return handle


def ground_of(handle: Handle, spec: StudySpec) -> Ground:
    return ground_source(handle)(spec)


def claimed(handle: Handle, worker: int = 0) -> Claim:
    """Claim a trial that must be there."""
    found = claim(handle, worker, ground_source(handle))
    assert isinstance(found, Claim), found
    return found


def never() -> bool:
    return False


def play(handle: Handle, limit: int | None = None) -> Verdict | None:
    """Run trials one after another, as one worker does; return why there is none left."""
    lay = ground_source(handle)
    done = 0
    while limit is None or done < limit:
        found = claim(handle, 0, lay)
        if isinstance(found, Verdict):
            return found
        perform(handle, found, never)
        done += 1
    return None


def states(handle: Handle) -> Counter[str]:
    return Counter(trial.state.name for trial in handle.study.get_trials(deepcopy=False))


def run_of(handle: Handle, number: int) -> RunRecord:
    with handle.engine.connect() as conn:
        run = run_of_trial(conn, handle.spec.name, number)
    assert run is not None
    return run


def rows(spec: StudySpec, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """Read the study's database as a stranger would."""
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
    """Let `change` see and replace what each window brings; return the list of windows as they run."""
    real, ran = trial_module.run_window, []

    def run_window(
        spec: StudySpec, ground: Ground, window: Window, seed: int
    ) -> tuple[Trained, Measured, Trades]:
        trained, measured, trades = real(spec, ground, window, seed)
        ran.append(window.index)
        return trained, change(measured, spec, window), trades

    monkeypatch.setattr(trial_module, "run_window", run_window)
    return ran


def unchanged(measured: Measured, spec: StudySpec, window: Window) -> Measured:
    return measured


def with_sharpe(measured: Measured, mean: float) -> Measured:
    """Replace the returns by alternating ones around a mean: a score as good or bad as asked for."""
    returns = np.full(len(measured.returns), mean)
    returns[::2] += 0.01
    returns[1::2] -= 0.01
    return dataclasses.replace(measured, returns=returns)
