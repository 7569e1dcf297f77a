"""A disk or a database that is short for a while costs no trial and no finished work."""

import errno
import io
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from optimize.agents.sb3.train import train as train_agent
from optimize.cli.status import study_status
from optimize.database import study_lock
from optimize.errors import BadInputError, StaleRunError
from optimize.results import leases
from optimize.results.event_log import Logged, events
from optimize.results.events import FailureHandled
from optimize.results.runs import run_of_trial, save_window
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.failures import shortages
from optimize.study.spec import WorkerSpec
from optimize.study.trials import execute as perform
from optimize.study.trials.claim import claim
from optimize.study.workers.process import EXIT_DONE, EXIT_FAILING, run_claims
from optimize.walkforward import run as trial_module
from optimize.walkforward.files import write_window
from tests.optimize.study.databases import Small
from tests.optimize.study.processes import until
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    expire,
    never,
    opened,
    play,
    rows,
    states,
    unchanged,
)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortages, "AWAY_S", 0.001)


def away(*_: object, **__: object) -> Any:
    raise OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def first(times: int, error: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises so many times before it succeeds."""
    left = [times]

    def call(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        return (error if left[0] >= 0 else real)(*arguments, **options)

    return call


def triage_events(context: StudyContext) -> list[Logged[FailureHandled]]:
    with context.engine.connect() as conn:
        return events(conn, context.spec.name, FailureHandled)


def test_a_full_disk_gives_trials_back_until_it_has_room(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial_module, "train", first(4, full, train_agent))
    context = opened(small(n_trials=2))
    assert run_claims(context, 0, never) == EXIT_DONE
    assert states(context) == {"COMPLETE": 2}
    assert rows(context.spec, "SELECT state FROM wf_runs WHERE trial_number = 0 ORDER BY attempt") == [
        *[("RETRIED",)] * 4,
        ("COMPLETE",),
    ]
    assert len(triage_events(context)) == 1
    assert capsys.readouterr().err.count("waiting up to") == 1


def test_a_disk_that_stays_full_fails_trials_and_then_the_study(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortages, "PATIENCE_S", 0.05)
    monkeypatch.setattr(trial_module, "train", full)
    context = opened(small(n_trials=50))
    assert run_claims(context, 0, never) == EXIT_FAILING
    assert {kind for (kind,) in rows(context.spec, "SELECT failure_kind FROM wf_runs")} == {"disk"}
    assert states(context)["FAIL"] >= 3


def test_a_shortage_after_another_window_is_a_new_one(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortages, "PATIENCE_S", -1.0)  # a second shortage fails the trial at once
    trainings: list[int] = []

    def train(*arguments: Any, **options: Any) -> Any:
        trainings.append(len(trainings))
        return (full if trainings[-1] in (0, 2) else train_agent)(*arguments, **options)

    monkeypatch.setattr(trial_module, "train", train)
    context = opened(small(n_trials=1))
    assert play(context) is NoTrial.FULL
    assert states(context) == {"COMPLETE": 1}


def test_a_trained_window_waits_for_room_and_is_not_trained_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    monkeypatch.setattr(perform, "write_window", first(2, full, write_window))
    monkeypatch.setattr(perform, "save_window", first(2, away, save_window))
    context = opened(small(n_trials=1))
    assert run_claims(context, 0, never) == EXIT_DONE
    assert ran == [0, 1]
    assert rows(context.spec, "SELECT state FROM wf_runs") == [("COMPLETE",)]


@pytest.mark.parametrize("step", ["settle", "tell", "load_baselines", "_check_lease"])
def test_a_database_that_is_away_when_a_trial_ends_is_waited_for(
    small: Small, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    monkeypatch.setattr(perform, step, first(2, away, getattr(perform, step)))
    context = opened(small(n_trials=1))
    assert run_claims(context, 0, never) == EXIT_DONE
    assert ran == [0, 1]
    assert (states(context), context.study.best_value) == ({"COMPLETE": 1}, stored_score(context))
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def stored_score(context: StudyContext) -> float | None:
    with context.engine.connect() as conn:
        run = run_of_trial(conn, context.spec.name, 0)
    return None if run is None else run.score


def test_an_outcome_whose_answer_was_lost_is_stored_once(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(trial_module, "train", broken)
    context = opened(small(n_trials=1))
    real = perform._settle

    def settle_and_lose(*arguments: Any) -> Any:
        monkeypatch.setattr(perform, "_settle", real)
        real(*arguments)
        away()

    monkeypatch.setattr(perform, "_settle", settle_and_lose)
    run = perform.perform(context, claimed(context), never)
    assert (run.state, states(context)) == ("RETRIED", {"RUNNING": 1})
    assert len(triage_events(context)) == 1


def test_a_market_that_cannot_be_laid_for_want_of_room_is_waited_for(small: Small) -> None:
    context = opened(small(n_trials=1))
    assert study_status(context.engine, "small")["shortage"] is None
    assert claim(context, 0, full) is NoTrial.SHORT
    assert states(context) == {"RUNNING": 1}
    assert "No space left on device" in study_status(context.engine, "small")["shortage"]
    assert claimed(context).run.trial_number == 0


def test_the_lease_of_a_run_outlives_a_full_disk_that_takes_no_log_either(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small(n_trials=1, worker=WorkerSpec(count=1, lease_s=1.0)))
    found, renewed = claimed(context), leases.renew

    class Full(io.StringIO):
        write = full

    monkeypatch.setattr("sys.stderr", Full())
    monkeypatch.setattr(leases, "renew", first(2, away, renewed))

    def renewed_again() -> bool:
        with context.engine.connect() as conn:
            (lease,) = leases.active(conn, context.spec.name)
        return lease.renewed_at > found.lease.renewed_at

    with perform.Heartbeat(context, found.lease):
        until(renewed_again, "the lease to be renewed again")


@pytest.mark.parametrize("lease_s", [0.5, 1e9, float("inf"), float("nan")])
def test_a_lease_lasts_for_a_stated_time(lease_s: float) -> None:
    with pytest.raises(BadInputError, match=r"worker\.lease_s=.*from 1 to 86400 \(seconds\)"):
        WorkerSpec(lease_s=lease_s)


def test_a_woken_worker_cannot_report_on_a_trial_that_another_runs(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small(n_trials=1))
    stalled = claimed(context)

    def run_trial(*_: object, report: Callable[[int, float], bool], **__: object) -> None:
        report(0, 1.0)
        expire(context.spec, 0)
        claimed(context, worker=1)
        report(7, 123.0)

    monkeypatch.setattr(perform, "run_trial", run_trial)
    with pytest.raises(StaleRunError):
        perform.perform(context, stalled, never)
    assert context.study.trials[0].intermediate_values == {0: 1.0}


def test_a_server_that_gives_no_connection_is_waited_for() -> None:
    assert shortages.passes(refusal_of("postgresql://walker@127.0.0.1:1/nowhere"))
    assert not shortages.passes(BadInputError("agent.batch_size=1 is not allowed"))


def refusal_of(url: str) -> BaseException:
    with pytest.raises(BadInputError, match="cannot connect") as caught, study_lock(url, "a"):
        pass
    return caught.value
