"""Trials that train nothing, for the engine and for plain Optuna, and studies full of them."""

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import insert

from benchmarks.stored_trials import insert_trials
from envs.spec import EnvSpec
from optimize import clock
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import DatabaseSpec
from optimize.evaluate.metrics import WindowMetrics
from optimize.evaluate.score import Score, ScoreSpec
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import WindowSpec
from optimize.results.tables import RUNS
from optimize.search.samplers import make_sampler
from optimize.search.space import SearchSpace, suggest
from optimize.search.spec import SamplerSpec
from optimize.study.context import StudyContext, enroll, open_study
from optimize.study.spec import StudySpec, resolve
from optimize.study.trials import execute as perform_module
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import perform
from optimize.study.workers.process import market_builder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import TrialResult

SPACE = {
    "agent": {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "gamma": {"low": 0.9, "high": 0.9999},
        "gae_lambda": {"low": 0.8, "high": 1.0},
        "ent_coef": {"low": 1e-8, "high": 1e-2, "log": True},
        "clip_range": [0.1, 0.2, 0.3],
        "n_epochs": [1, 2, 4],
    }
}

METRICS = WindowMetrics(
    sharpe=1.0,
    sharpe_zero_cost=1.0,
    total_return=0.0,
    max_drawdown=-0.1,
    volatility=0.1,
    turnover=1.0,
    cost=0.0,
    trades=5,
    exposure=1.0,
    bars=480,
    sessions=20,
)
RETURNS = np.tile([0.01, -0.009], METRICS.sessions // 2)
RESULT = WindowResult(METRICS, RETURNS, RETURNS, False)  # of every window: a record is made from it


def engine_study(folder: Path, n_trials: int) -> tuple[StudyContext, WindowedMarket]:
    """Open a study whose one market is a small synthetic one."""
    context = open_study(engine_spec(folder, n_trials))
    windowed = market_builder(context)(context.spec)
    enroll(context, windowed)
    return context, windowed


def engine_spec(folder: Path, n_trials: int) -> StudySpec:
    """Return the spec of a study with the default sampler and pruner."""
    spec = StudySpec(
        name="engine",
        n_trials=n_trials,
        output_dir=str(folder / "studies"),
        data=DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=1440)),
        feature=FeatureSpec(lookback=2, indicators=["returns"]),
        env=EnvSpec(rebalance_band=0.0),
        agent=AgentSpec(hyperparameters={"gamma": 0.99}),
        space=SPACE,
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=20),
        score=ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0),
        database=DatabaseSpec(url=f"sqlite:///{folder / 'engine.db'}"),
    )
    return resolve(spec)


def trivial_trials() -> None:
    """Let the trials of this process train nothing."""

    def run_trial(spec: StudySpec, windowed: WindowedMarket, entropy: list[int], **parts: Any) -> TrialResult:
        value = random.Random(str(entropy)).gauss(0, 1)
        for window in range(2):
            if parts["report"](window, value) and not window:
                return TrialResult(((RESULT,),), Score(None, True, None, None, ()), 0)
        return TrialResult(((RESULT, RESULT),), Score(value, True, None, 0.1, (value, value)), None)

    setattr(perform_module, "run_trial", run_trial)  # noqa: B010  # mypy: no assignment to a module's function


def engine_trial(context: StudyContext, windowed: WindowedMarket) -> tuple[float, float]:
    """Run one trial as a worker does; return the seconds of its claim and of all of it."""
    started = time.perf_counter()
    found = claim(context, 0, lambda _: windowed)
    claimed = time.perf_counter()
    if not isinstance(found, Claim):
        raise RuntimeError(f"there is no trial to run: {found}")
    perform(context, found, lambda: False)
    return claimed - started, time.perf_counter() - started


def plain_trial(study: optuna.Study, space: SearchSpace) -> tuple[float, float]:
    """Run one trial as an objective of Optuna does; return the seconds of its ask and of all of it."""
    started = time.perf_counter()
    trial = study.ask()
    suggest(space, trial)
    asked = time.perf_counter()
    value = random.Random(trial.number).gauss(0, 1)
    for window in range(2):
        trial.report(value, window)
        trial.should_prune()
    study.tell(trial, value)
    return asked - started, time.perf_counter() - started


def random_trials(space: SearchSpace, count: int) -> list[FrozenTrial]:
    """Return finished trials, as a study has them."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler(SamplerSpec("random"), 0, space))
    for number in range(count):
        trial = study.ask()
        suggest(space, trial)
        value = random.Random(number).gauss(0, 1)
        for window in range(2):
            trial.report(value, window)
        for key, attribute in {"run_uuid": "0" * 36, "repetition": 0, "feasible": True}.items():
            trial.set_user_attr(key, attribute)
        study.tell(trial, value)
    return study.get_trials(deepcopy=False)


def fill_engine(context: StudyContext, windowed: WindowedMarket, past: list[FrozenTrial]) -> None:
    """Give a study finished trials, with a record of each."""
    engine_trial(context, windowed)
    with context.engine.begin() as conn:
        example = conn.execute(RUNS.select()).mappings().one()
        row = {column.key: example[column] for column in RUNS.columns}
        runs = [
            row
            | {"run_uuid": f"past {number}", "trial_number": number, "state": "COMPLETE"}
            | {"score": trial.value, "parameters": trial.params, "finished_at": clock.now()}
            for number, trial in enumerate(past, start=1)
        ]
        conn.execute(insert(RUNS), runs)
        insert_trials(conn, context.storage.get_study_id_from_name(context.spec.name), past, first=1)
