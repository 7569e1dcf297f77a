import json
import math
import multiprocessing
from collections.abc import Callable, Iterator

import numpy as np
import optuna
import pytest
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine, inspect, text

from optimize import clock
from optimize.database import open_engine
from optimize.evaluate.drawdowns import SessionLevels
from optimize.results.leases import acquire
from optimize.results.records import Outcome, save_study
from optimize.results.returns import save_returns, save_sessions
from optimize.results.runs import finish_run, save_window, start_run
from optimize.results.states import RunState
from optimize.results.views import VIEWS, create_views, drop_views
from optimize.search.storage import open_storage
from tests.optimize.results.factories import (
    STUDY,
    complete_outcome,
    make_run,
    make_study,
    make_window,
    run_to_end,
    take,
)


@pytest.fixture
def study(engine: Engine, url: str) -> Iterator[optuna.Study]:
    """Yield a real study in the same file, with the views in place."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=3),
    )
    assert create_views(engine)
    yield study
    storage.engine.dispose()


def suggest_all(trial: Trial) -> None:
    """Suggest a parameter of every kind, one of them only in a branch."""
    net = trial.suggest_categorical("agent.net", ["small", "medium", None, True, 3, 0.5])
    trial.suggest_int("agent.n_steps", 64, 4096, log=True)
    trial.suggest_float("agent.learning_rate", 1e-6, 1e-2, log=True)
    trial.suggest_float("agent.gamma", 0.9, 1.0, step=0.01)
    if net == "small":
        trial.suggest_categorical('agent.it\'s "quoted"', ["a'b", 'c"d'])


def rows(engine: Engine, sql: str) -> list[dict[str, object]]:
    with engine.connect() as conn:
        return [dict(row) for row in conn.execute(text(sql)).mappings()]


def schema_version(engine: Engine) -> object:
    """Return the version of the schema, which changes whenever a view is made."""
    identities = "SELECT string_agg(CAST(oid AS text), ' ' ORDER BY oid) FROM pg_class"
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as conn:
        return conn.exec_driver_sql("PRAGMA schema_version" if sqlite else identities).scalar()


def best_models(engine: Engine) -> list[dict[str, object]]:
    return rows(
        engine, f"SELECT * FROM best_models WHERE study_name = '{STUDY}' ORDER BY score DESC LIMIT 100"
    )


def tell_infeasible(study: optuna.Study, value: float, excess: float) -> None:
    trial = study.ask()
    suggest_all(trial)
    trial.set_constraint("trades", -1.0)
    trial.set_constraint("volatility", excess)
    study.tell(trial, value)


def test_there_are_no_views_before_optunas_tables_exist(engine: Engine) -> None:
    assert not create_views(engine)
    assert inspect(engine).get_view_names() == []


def test_views_are_created_again_and_dropped_and_an_old_one_is_replaced(
    engine: Engine, study: optuna.Study
) -> None:
    assert create_views(engine)
    assert set(inspect(engine).get_view_names()) == set(VIEWS)
    drop_views(engine)
    drop_views(engine)
    assert inspect(engine).get_view_names() == []
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE VIEW best_models AS SELECT 1 AS old")
    assert create_views(engine)
    assert best_models(engine) == []
    before = schema_version(engine)
    create_views(engine)
    assert schema_version(engine) == before  # nothing was touched


def create_again_and_again(url: str, barrier: "multiprocessing.synchronize.Barrier", drops: bool) -> None:
    engine = open_engine(url)
    for _ in range(5):
        barrier.wait(timeout=300)
        if drops:
            drop_views(engine)
        barrier.wait(timeout=300)
        create_views(engine)
    engine.dispose()


@pytest.mark.usefixtures("study")
@pytest.mark.slow
def test_several_processes_create_the_views_at_once(engine: Engine, url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    creators = [
        context.Process(target=create_again_and_again, args=(url, barrier, number == 0))
        for number in range(4)
    ]
    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join(300)
    assert [creator.exitcode for creator in creators] == [0] * 4
    assert set(inspect(engine).get_view_names()) == set(VIEWS)
    assert best_models(engine) == []


def test_the_view_the_maximum_and_optuna_name_the_same_best_trial(
    engine: Engine, study: optuna.Study
) -> None:
    for _ in range(25):
        trial = study.ask()
        suggest_all(trial)
        study.tell(trial, math.sin(trial.number))
    pruned = study.ask()
    suggest_all(pruned)
    pruned.report(99.0, step=0)
    study.tell(pruned, state=TrialState.PRUNED)  # Optuna by itself would store 99 as its value
    study.tell(study.ask(), state=TrialState.FAIL)
    tell_infeasible(study, 50.0, 0.1)
    tell_infeasible(study, 51.0, math.inf)
    study.ask()

    found = best_models(engine)
    assert len(found) == 25
    best = study.best_trial
    assert (found[0]["trial_number"], found[0]["score"]) == (best.number, best.value)
    pruned_too = rows(
        engine,
        "SELECT MAX(v.value) AS top FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id "
        "WHERE t.state = 'COMPLETE' AND v.value < 50",
    )
    assert pruned_too[0]["top"] == best.value


def test_parameters_are_decoded_to_the_values_that_were_suggested(
    engine: Engine, study: optuna.Study
) -> None:
    for _ in range(30):
        trial = study.ask()
        suggest_all(trial)
        study.tell(trial, float(trial.number))
    nets = set()
    for found in best_models(engine):
        shown = json.loads(str(found["parameters"]))
        real = study.trials[int(str(found["trial_number"]))].params
        nets.add(repr(real["agent.net"]))
        assert list(shown) == sorted(real)
        for name, value in real.items():
            assert type(shown[name]) is type(value)
            assert shown[name] == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value)
    assert len(nets) == 6  # every choice was drawn, null and true among them


def test_a_parameter_set_appears_once_with_its_median_score_and_lowest_number(
    engine: Engine, study: optuna.Study
) -> None:
    for net, score in [("small", 1.0), ("small", 3.0), ("small", 3.0), ("medium", 2.0)]:
        study.enqueue_trial({"net": net})
        trial = study.ask()
        trial.suggest_categorical("net", ["small", "medium"])
        study.tell(trial, score)
    assert [(row["trial_number"], row["score"]) for row in best_models(engine)] == [(1, 3.0), (3, 2.0)]


def told(study: optuna.Study, tell: Callable[[Trial], object]) -> int:
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    tell(trial)
    return int(trial.number)


def test_a_best_model_carries_what_its_run_measured(engine: Engine, study: optuna.Study) -> None:
    number = told(study, lambda trial: study.tell(trial, 1.5))
    by_hand = told(study, lambda trial: study.tell(trial, 0.5))
    lease = run_to_end(engine, number, complete_outcome(1.5, standard_error=0.2), sharpes=(1.0, 2.0, 3.0))
    first, second = best_models(engine)
    assert first["run_uuid"] == lease.run_uuid
    assert (first["standard_error"], first["total_return"], first["buy_and_hold"]) == (0.2, 0.3, 0.4)
    assert (first["windows"], first["seconds"]) == (3, 9.0)
    assert first["finished_at"]
    assert (second["trial_number"], second["run_uuid"], second["windows"]) == (by_hand, None, 0)


def test_trial_windows_are_those_of_the_run_that_finished_the_trial(
    engine: Engine, study: optuna.Study
) -> None:
    number = told(study, lambda trial: study.tell(trial, 1.0))
    running = told(study, lambda trial: None)
    old = take(engine, number)
    with engine.begin() as conn:
        start_run(conn, old, make_run(old))
        save_window(conn, old, make_window(old, 0, sharpe=-9.0))
    new = run_to_end(engine, number, complete_outcome(1.0), sharpes=(1.0, 2.0))  # takes over
    with engine.begin() as conn:
        unfinished = acquire(conn, STUDY, running, worker=0, lease_s=60.0, now=1.0)
        start_run(conn, unfinished, make_run(unfinished))
        save_window(conn, unfinished, make_window(unfinished))
    found = rows(engine, 'SELECT * FROM trial_windows ORDER BY "window", repeat')
    assert [(row["run_uuid"], row["window"], row["sharpe"]) for row in found] == [
        (new.run_uuid, 0, 1.0),
        (new.run_uuid, 1, 2.0),
    ]
    assert {(row["study_name"], row["trial_number"], row["state"]) for row in found} == {
        (STUDY, number, "COMPLETE")
    }


def test_trial_returns_has_a_row_for_each_session(engine: Engine, study: optuna.Study) -> None:
    number = told(study, lambda trial: study.tell(trial, 1.0))
    lease = run_to_end(engine, number, complete_outcome(1.0), sharpes=(1.0, 2.0))
    days = {
        0: np.arange("2020-07-01", "2020-07-03", dtype="datetime64[D]"),
        1: np.array(["2020-07-03"], "M8[D]"),
    }
    with engine.begin() as conn:
        save_sessions(conn, STUDY, days)
        levels = SessionLevels(np.array([0.0, -1 / 7]), np.array([1.0, 0.9]), np.array([1.3, 1.0]))
        save_returns(conn, lease.run_uuid, 0, 0, [0.1 + 0.2, -1 / 3], levels)
        save_returns(conn, lease.run_uuid, 1, 0, [1e-17])
    found = rows(engine, "SELECT * FROM trial_returns ORDER BY session")
    assert [(row["session"], row["window"], row["return"], row["drawdown"]) for row in found] == [
        ("2020-07-01", 0, 0.1 + 0.2, 0.0),
        ("2020-07-02", 0, -1 / 3, -1 / 7),
        ("2020-07-03", 1, 1e-17, None),
    ]
    assert {(row["study_name"], row["trial_number"], row["repeat"]) for row in found} == {(STUDY, number, 0)}


def test_a_failed_attempt_that_was_tried_again_does_not_speak_for_the_trial(
    engine: Engine, study: optuna.Study
) -> None:
    number = told(study, lambda trial: study.tell(trial, 1.0))
    run_to_end(engine, number, Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom"))
    second = run_to_end(engine, number, complete_outcome(1.0))
    assert [row["run_uuid"] for row in best_models(engine)] == [second.run_uuid]
    assert [row["run_uuid"] for row in rows(engine, "SELECT * FROM trial_windows")] == [second.run_uuid]


def test_study_health_counts_what_there_is(engine: Engine, study: optuna.Study) -> None:
    with engine.begin() as conn:
        save_study(conn, make_study(n_trials=5))
    run_to_end(engine, told(study, lambda trial: study.tell(trial, 1.0)), complete_outcome(1.0, seconds=8.0))
    pruned = told(study, lambda trial: study.tell(trial, state=TrialState.PRUNED))
    run_to_end(engine, pruned, Outcome(state=RunState.PRUNED, seconds=4.0, reason="below the median"))
    for kind in ("oom", "oom", "bug"):
        failed = told(study, lambda trial: study.tell(trial, state=TrialState.FAIL))
        run_to_end(engine, failed, Outcome(state=RunState.FAIL, seconds=90.0, failure_kind=kind))
    lease = take(engine, told(study, lambda trial: None), now=clock.now().timestamp())
    study.enqueue_trial({"x": 0.5})

    (health,) = rows(engine, "SELECT * FROM study_health")
    counts = ("complete", "pruned", "running", "waiting", "failed")
    assert [health[state] for state in counts] == [1, 1, 1, 1, 3]
    assert (health["study_name"], health["phase"], health["cap"]) == (STUDY, "model", 5)
    assert health["remaining"] == 2  # failures and waiting ones leave the cap alone
    assert health["pids"] == str(lease.pid)
    assert json.loads(str(health["failures"])) == {"bug": 1, "oom": 2}
    assert health["seconds_per_trial"] == 6.0
    assert health["last_finished_at"]


def test_a_record_of_a_trial_that_was_not_told_yet_is_not_a_best_model(
    engine: Engine, study: optuna.Study
) -> None:
    number = told(study, lambda trial: None)
    lease = take(engine, number)
    with engine.begin() as conn:
        start_run(conn, lease, make_run(lease))
        finish_run(conn, lease, complete_outcome(9.0))
    assert best_models(engine) == []
    study.tell(number, 9.0)
    assert [row["run_uuid"] for row in best_models(engine)] == [lease.run_uuid]


def test_an_infinite_score_is_no_best_model(engine: Engine, study: optuna.Study) -> None:
    told(study, lambda trial: study.tell(trial, math.inf))
    finite = told(study, lambda trial: study.tell(trial, 1.0))
    assert [row["trial_number"] for row in best_models(engine)] == [finite]


def test_only_the_last_run_that_ended_as_the_trial_did_speaks_for_it(
    engine: Engine, study: optuna.Study
) -> None:
    failed = Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom")
    number = told(study, lambda trial: study.tell(trial, state=TrialState.FAIL))
    run_to_end(engine, number, failed)
    last = run_to_end(engine, number, failed)
    told_by_hand = told(study, lambda trial: study.tell(trial, 1.0))
    run_to_end(engine, told_by_hand, failed)
    assert [row["run_uuid"] for row in rows(engine, "SELECT * FROM trial_windows")] == [last.run_uuid]
    assert [row["run_uuid"] for row in best_models(engine)] == [None]
