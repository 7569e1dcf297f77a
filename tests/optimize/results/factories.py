"""Records for the tests of the results, and the way a run goes."""

from datetime import date
from typing import Any

from sqlalchemy import Engine

from optimize.results.leases import Lease, acquire, release
from optimize.results.queries import query_parameters
from optimize.results.records import Outcome, RunRecord, StudyRecord, WindowRecord
from optimize.results.runs import finish_run, save_window, start_run

STUDY = "btc.model"


def make_study(name: str = STUDY, n_trials: int = 8) -> StudyRecord:
    return StudyRecord(
        study_name=name,
        phase="model",
        n_trials=n_trials,
        seed=7,
        max_failures=3,
        spec={"agent": {"name": "ppo"}},
        space={"agent": {"net": ["small", "medium"]}},
        space_hash="aa",
        score={"name": "sharpe"},
        score_hash="bb",
        data_fingerprint="cc",
        versions={"optuna": "5.0.0"},
    )


def make_run(lease: Lease, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_uuid": lease.run_uuid,
        "study_name": lease.study_name,
        "trial_number": lease.trial_number,
        "parameters": {"agent.learning_rate": 0.1 + 0.2},
        "spec": {"agent": {"net": "small"}},
        "entropy": [7, 0, 0, 0],
        "versions": {"optuna": "5.0.0"},
        "data_fingerprint": "cc",
    }
    return RunRecord(**{**values, **changes})


def make_window(
    lease: Lease, window: int = 0, repeat: int = 0, sharpe: float | None = 1.0, **changes: Any
) -> WindowRecord:
    return WindowRecord(
        run_uuid=lease.run_uuid,
        window=window,
        repeat=repeat,
        train_start=date(2020, 1, 1),
        train_end=date(2020, 6, 30),
        test_start=date(2020, 7, 1),
        test_end=date(2020, 9, 30),
        train_bars=4368,
        test_bars=2208,
        sharpe=sharpe,
        sharpe_zero_cost=1.25,
        total_return=0.1,
        max_drawdown=-0.05,
        volatility=0.2,
        turnover=12.0,
        cost=0.01,
        trades=42,
        exposure=0.5,
        seconds=3.0,
        returns_path=f"returns/{window}.parquet",
        **changes,
    )


def complete_outcome(score: float, **changes: Any) -> Outcome:
    metrics = {"total_return": 0.3, "trades": 42.0, "buy_and_hold": 0.4, "exposure": 0.5}
    return Outcome(**{"state": "COMPLETE", "seconds": 9.0, "score": score, "metrics": metrics, **changes})


def take(engine: Engine, number: int = 0, *, now: float = 1000.0, study: str = STUDY) -> Lease:
    with engine.begin() as conn:
        return acquire(conn, study, number, worker=0, lease_s=60.0, now=now)


def run_to_end(
    engine: Engine, number: int, outcome: Outcome, sharpes: tuple[float, ...] = (1.0,), study: str = STUDY
) -> Lease:
    lease = take(engine, number, study=study)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease))
        for window, sharpe in enumerate(sharpes):
            save_window(conn, lease, make_window(lease, window, sharpe=sharpe))
        finish_run(conn, lease, outcome)
        release(conn, lease)
    return lease


def query_values(name: str, study_name: str = STUDY) -> dict[str, Any]:
    """Return values for the parameters of a named query: the study, and no limit where it takes limits."""
    return dict.fromkeys(query_parameters(name)) | {"name": study_name}
