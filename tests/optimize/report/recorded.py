"""Studies recorded from given session returns: the rows that their workers would have left, no training."""

import uuid
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import Engine, insert

from benchmarks.stored_trials import insert_trials
from envs.plain import to_plain
from envs.types import FloatArray
from optimize import clock
from optimize.data.spec import DataSpec
from optimize.evaluate.metrics import sharpe_ratio
from optimize.report.luck import StudyLuck, measure_luck
from optimize.results.creation import create_tables
from optimize.results.records import (
    BaselineRecord,
    StudyRecord,
    WindowRecord,
    load_study,
    save_baselines,
    save_study,
)
from optimize.results.returns import save_returns, save_sessions
from optimize.results.rows import values_of
from optimize.results.runs import parameter_set
from optimize.results.states import RunState, TryKind
from optimize.results.tables import RUNS, WINDOWS
from optimize.results.tries import Try, record_try
from optimize.results.views import create_views
from optimize.search.storage import load_or_create_study, open_storage
from optimize.study.spec import StudySpec

YEAR = 252.0
T, N = 250, 50  # sessions and trials of `noise`
FIRST = np.datetime64("2020-01-01")
RATE = "agent.learning_rate"


def record_trials(
    engine: Engine,
    returns: FloatArray,
    *,
    name: str = "noise",
    symbol: str = "BTC-USD",
    first: np.datetime64 = FIRST,
    pruned: Collection[int] = (),
    hold: FloatArray | None = None,
    sets: Collection[float] | None = None,
) -> None:
    """Record a finished study of trials with these session returns (N, T), in one window."""
    url = engine.url.render_as_string(hide_password=False)
    create_tables(engine)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    load_or_create_study(storage, name)
    create_views(engine)
    spec = to_plain(
        StudySpec(name=name, data=DataSpec(symbols=[symbol], timeframe="1d", provider="file", path="x"))
    )
    sessions = first + np.arange(returns.shape[1])
    days: tuple[date, date] = (sessions[0].astype(date), (sessions[-1] + 1).astype(date))
    rates = list(sets or [1e-4 * (number + 1) for number in range(len(returns))])
    scores = [None if n in pruned else sharpe_ratio(row, YEAR) for n, row in enumerate(returns)]
    with engine.begin() as conn:
        record = StudyRecord(name, "single", len(returns), 0, 3, spec, {}, "", spec["score"], "", "", {})
        save_study(conn, record)
        save_sessions(conn, name, {0: sessions})
        for number, (row, score, rate) in enumerate(zip(returns, scores, rates, strict=True)):
            _record_run(conn, name, number, row, score, {RATE: rate}, symbol, days)
        if hold is not None:
            series = {"sessions": [sessions.astype(str).tolist()], "returns": [hold.tolist()]}
            save_baselines(
                conn, [BaselineRecord(name, "1d", "buy_and_hold", 0.4, 0.4, 0.0, 0.0, 1.0, series)]
            )
    distributions: dict[str, BaseDistribution] = {RATE: FloatDistribution(1e-6, 1.0)}
    trials = [
        create_trial(
            state=TrialState.PRUNED if score is None else TrialState.COMPLETE,
            value=score,
            params={RATE: rate},
            distributions=distributions,
        )
        for score, rate in zip(scores, rates, strict=True)
    ]
    with engine.begin() as conn:
        insert_trials(conn, storage.get_study_id_from_name(name), trials)
    storage.engine.dispose()


def _record_run(
    conn: Any,
    name: str,
    number: int,
    returns: FloatArray,
    score: float | None,
    parameters: Mapping[str, float],
    symbol: str,
    days: tuple[date, date],
) -> None:
    run_uuid = str(uuid.uuid4())
    values = {
        "run_uuid": run_uuid, "study_name": name, "trial_number": number, "attempt": 1, "repetition": 0,
        "state": RunState.PRUNED if score is None else RunState.COMPLETE, "score": score, "spec": {},
        "started_at": clock.now(), "finished_at": clock.now(), "parameters": parameters, "entropy": [0],
        "versions": {}, "data_fingerprint": "", "metrics": {"sessions_per_year": YEAR},
        "parameter_set": parameter_set(parameters), "seconds": 1.0,
    }  # fmt: skip
    conn.execute(insert(RUNS).values(values))
    window = WindowRecord(run_uuid, 0, 0, days[0], days[0], *days, 100, len(returns), *(0.5,) * 10)
    conn.execute(insert(WINDOWS).values(values_of(window)))
    save_returns(conn, run_uuid, 0, 0, returns)
    record_try(conn, Try(run_uuid, TryKind.TRIAL, name, [symbol], *days, trial_number=number))


def noise(seed: int = 1, trials: int = N) -> FloatArray:
    """Return session returns (trials, T) without an edge."""
    return np.random.default_rng(seed).standard_normal((trials, T)) * 0.01


def study_of(engine: Engine, name: str = "noise") -> StudyRecord:
    """Return the record of a study."""
    with engine.connect() as conn:
        record = load_study(conn, name)
    assert record is not None
    return record


def measured(engine: Engine, name: str = "noise") -> StudyLuck:
    """Return the luck of a study, measured now."""
    with engine.connect() as conn:
        found = measure_luck(conn, study_of(engine, name), YEAR)
    assert found is not None
    return found
