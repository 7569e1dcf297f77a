from dataclasses import replace

import pytest
from sqlalchemy import Engine, func, select

from optimize.errors import BadInputError, StaleRunError
from optimize.results import tables
from optimize.results.event_log import Logged, events, last_event, log_event
from optimize.results.events import Resumed, Stopped
from optimize.results.leases import abandon, check_token, release
from optimize.results.records import (
    BaselineRecord,
    ExportRecord,
    Outcome,
    forget_study,
    load_baselines,
    load_exports,
    load_study,
    save_baselines,
    save_export,
    save_study,
    set_cap,
)
from optimize.results.runs import (
    adopt_windows,
    finish_run,
    finished_runs,
    load_run,
    run_of_trial,
    save_window,
    start_run,
    windows_of,
)
from optimize.results.states import RunState
from tests.optimize.results.factories import (
    STUDY,
    complete_outcome,
    make_run,
    make_study,
    make_window,
    run_to_end,
    take,
)

FAILED = Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom", failure_message="out of memory")


def test_a_study_is_stored_once_and_then_read_back_as_it_was(engine: Engine) -> None:
    study = make_study()
    with engine.begin() as conn:
        assert save_study(conn, study).spec == study.spec
        assert save_study(conn, replace(study, space_hash="other")).space_hash == "aa"
        loaded = load_study(conn, STUDY)
        assert loaded is not None
        assert replace(loaded, created_at=study.created_at) == study
        assert load_study(conn, "absent") is None


def test_the_cap_is_a_property_of_the_study(engine: Engine) -> None:
    with engine.begin() as conn:
        save_study(conn, make_study(n_trials=8))
        set_cap(conn, STUDY, 20)
        stored = load_study(conn, STUDY)
        assert stored is not None
        assert stored.n_trials == 20
        with pytest.raises(BadInputError, match="no such study"):
            set_cap(conn, "absent", 20)
        with pytest.raises(BadInputError, match="n_trials=-1"):
            set_cap(conn, STUDY, -1)


def test_a_run_is_read_back_exactly(engine: Engine) -> None:
    lease = run_to_end(engine, 0, complete_outcome(1.5, standard_error=0.25))
    with engine.connect() as conn:
        run = load_run(conn, lease.run_uuid)
        assert load_run(conn, "absent") is None
    assert run is not None
    assert (run.state, run.score, run.standard_error, run.attempt) == ("COMPLETE", 1.5, 0.25, 1)
    assert run.parameters["agent.learning_rate"] == 0.1 + 0.2  # all 17 digits
    assert run.finished_at is not None
    assert run.metrics is not None
    assert run.metrics["exposure"] == 0.5


def test_metrics_that_people_select_on_are_columns_and_what_is_undefined_is_null(engine: Engine) -> None:
    metrics = {"total_return": 0.3, "max_drawdown": float("nan"), "cost": float("inf")}
    run_to_end(engine, 0, complete_outcome(1.0, metrics=metrics), sharpes=(float("nan"),))
    with engine.connect() as conn:
        row = conn.execute(select(tables.RUNS)).mappings().one()
        assert (row["total_return"], row["max_drawdown"], row["cost"]) == (0.3, None, None)
        assert row["metrics_json"] == {"total_return": 0.3, "max_drawdown": None, "cost": None}
        assert conn.execute(select(tables.WINDOWS.c.sharpe)).scalar() is None


def test_large_seeds_and_text_that_no_database_can_hold_are_kept(engine: Engine) -> None:
    odd = "half a pair \ud800 and NUL \0, \u00e9"
    with engine.begin() as conn:
        save_study(conn, replace(make_study(), seed=2**63 - 1))
        stored = load_study(conn, STUDY)
        assert stored is not None
        assert stored.seed == 2**63 - 1
        log_event(conn, STUDY, odd, Stopped(why=odd))
        (logged,) = events(conn, STUDY, Stopped)
    run_to_end(engine, 0, replace(FAILED, failure_message=odd, traceback=odd))
    with engine.connect() as conn:
        run = run_of_trial(conn, STUDY, 0)
    readable = "half a pair \\ud800 and NUL \\x00, \u00e9"
    assert run is not None
    assert (logged.message, run.failure_message, run.traceback) == (readable,) * 3
    assert logged.event.why == odd


def test_the_first_outcome_of_a_run_stands(engine: Engine) -> None:
    lease = run_to_end(engine, 0, complete_outcome(1.5))
    with engine.begin() as conn:
        again = finish_run(conn, lease, FAILED)  # the lease is released by now
        assert (again.state, again.score, again.failure_kind) == ("COMPLETE", 1.5, None)

    held = take(engine, 1)
    with engine.begin() as conn:
        start_run(conn, held, make_run(held))
        first = finish_run(conn, held, complete_outcome(2.0))
        assert finish_run(conn, held, FAILED) == first


def test_storing_a_start_and_a_window_again_changes_nothing(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        first = start_run(conn, lease, make_run(lease))
        assert start_run(conn, lease, make_run(lease)) == first
        for _ in range(2):
            save_window(conn, lease, make_window(lease, 1))
            save_window(conn, lease, make_window(lease, 0))
        assert windows_of(conn, lease.run_uuid) == [make_window(lease, 0), make_window(lease, 1)]


@pytest.mark.parametrize("given_back", [False, True])
def test_a_run_that_lost_its_trial_can_write_nothing(engine: Engine, given_back: bool) -> None:
    old = take(engine)
    with engine.begin() as conn:
        start_run(conn, old, make_run(old))
        if given_back:
            abandon(conn, old)
    new = old if given_back else take(engine, now=2000.0)
    with engine.begin() as conn:
        with pytest.raises(StaleRunError, match="no longer owns"):
            save_window(conn, old, make_window(old))
        with pytest.raises(StaleRunError):
            finish_run(conn, old, complete_outcome(9.0))
        with pytest.raises(StaleRunError):
            start_run(conn, old, make_run(old))
        with pytest.raises(StaleRunError):
            adopt_windows(conn, old)
        run = load_run(conn, old.run_uuid)
        assert run is not None
        assert (run.state, run.score) == ("LOST", None)
        assert windows_of(conn, old.run_uuid) == []
        if not given_back:
            check_token(conn, STUDY, 0, new.run_uuid, new.token)


def test_a_run_writes_about_itself_only(engine: Engine) -> None:
    mine, other = take(engine, 0), take(engine, 1)
    with engine.begin() as conn, pytest.raises(StaleRunError):
        save_window(conn, mine, make_window(other))


def test_a_run_that_takes_over_goes_on_after_the_finished_windows(engine: Engine) -> None:
    old = take(engine)
    with engine.begin() as conn:
        start_run(conn, old, make_run(old))
        save_window(conn, old, make_window(old, 0, sharpe=0.7))
    new = take(engine, now=2000.0)
    with engine.begin() as conn:
        assert start_run(conn, new, make_run(new)).attempt == 2
        assert adopt_windows(conn, new) == [make_window(new, 0, sharpe=0.7)]
        save_window(conn, new, make_window(new, 0, sharpe=0.9))
        assert adopt_windows(conn, new) == [make_window(new, 0, sharpe=0.9)]  # its own is kept


def test_windows_of_a_failed_attempt_are_not_adopted(engine: Engine) -> None:
    run_to_end(engine, 0, FAILED)
    second = take(engine)
    with engine.begin() as conn:
        start_run(conn, second, make_run(second))
        assert adopt_windows(conn, second) == []


def test_the_reaper_finds_records_that_are_finished_but_not_those_tried_again(engine: Engine) -> None:
    run_to_end(engine, 0, complete_outcome(1.0))
    run_to_end(engine, 1, FAILED)
    retry = take(engine, 1)
    with engine.begin() as conn:
        start_run(conn, retry, make_run(retry))
    run_to_end(engine, 2, Outcome(state=RunState.PRUNED, seconds=1.0, reason="below the median"))
    run_to_end(engine, 0, complete_outcome(5.0), study="eth.model")
    with engine.begin() as conn:
        assert [run.trial_number for run in finished_runs(conn, STUDY)] == [0, 2]
        assert [run.state for run in finished_runs(conn, STUDY, running={1, 2})] == ["PRUNED"]
        assert finished_runs(conn, STUDY, running=[]) == []
        assert run_of_trial(conn, STUDY, 1) is None
        finish_run(conn, retry, complete_outcome(3.0))
        release(conn, retry)
        finished = run_of_trial(conn, STUDY, 1)
        assert finished is not None
        assert (finished.run_uuid, finished.attempt) == (retry.run_uuid, 2)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"state": "DONE"}, "state='DONE'"),
        ({"state": "COMPLETE"}, "score=None"),
        ({"state": "COMPLETE", "score": float("inf")}, "score=inf"),
        ({"state": "FAIL", "failure_kind": "sad"}, "failure_kind='sad'"),
    ],
)
def test_an_outcome_that_contradicts_itself_is_refused(values: dict[str, object], key: str) -> None:
    with pytest.raises(BadInputError, match=key):
        Outcome(seconds=1.0, **values)  # type: ignore[arg-type]  # wrong on purpose


def test_baselines_exports_and_events_are_read_back(engine: Engine) -> None:
    flat = BaselineRecord(STUDY, "1h", "flat", 0.0, 0.0, 0.0, 0.0, 0.0, [0.0, 0.0])
    hold = BaselineRecord(STUDY, "1h", "buy_and_hold", 0.4, 0.4, 0.2, 0.0, 1.0)
    export = ExportRecord("studies/btc/exports/2", STUDY, 3, "u", 2, 1.0, "dd")
    with engine.begin() as conn:
        save_baselines(conn, [flat, hold])
        save_baselines(conn, [flat])
        assert load_baselines(conn, STUDY) == [hold, flat]
        save_export(conn, export)
        save_export(conn, replace(export, rank=1))
        assert [found.rank for found in load_exports(conn, STUDY)] == [1]
        log_event(conn, STUDY, "three failures in a row", Stopped(causes=("oom",)))
        log_event(conn, STUDY, "resumed", Resumed(3))
        assert [logged.event for logged in events(conn, STUDY, Stopped)] == [Stopped(causes=("oom",))]
        last: Logged[Stopped | Resumed] | None = last_event(conn, [STUDY], [Stopped, Resumed])
        assert last is not None
        assert last.event == Resumed(3)


def test_a_forgotten_study_is_moved_aside_but_for_its_exports(engine: Engine) -> None:
    run_to_end(engine, 0, complete_outcome(1.0))
    run_to_end(engine, 0, complete_outcome(1.0), study="eth.model")
    take(engine, 1)
    with engine.begin() as conn:
        save_study(conn, make_study())
        save_export(conn, ExportRecord("b", STUDY, 0, "u", 1, 1.0, "dd"))
        log_event(conn, STUDY, "resumed", Resumed())
        forget_study(conn, STUDY)
        left = {
            name: conn.execute(select(func.count()).select_from(table)).scalar()
            for name, table in tables.METADATA.tables.items()
        }
    others = {"wf_runs": 1, "wf_windows": 1, "wf_exports": 1, "wf_trash": 5}
    assert left == {name: others.get(name, 0) for name in tables.METADATA.tables}
