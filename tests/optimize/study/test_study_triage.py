"""What failures mean: tried once more, skipped, or the end of the study."""

import dataclasses
import errno
import sqlite3

import optuna
import pytest
import torch
from sqlalchemy.exc import DBAPIError, OperationalError

from optimize.agents.train import train as train_agent
from optimize.errors import BadInputError, DownloadError, NumericError
from optimize.results.records import EventRecord, events
from optimize.results.runs import windows_of
from optimize.study import trial as trial_module
from optimize.study.claims.caps import Verdict, claim, fail_claimed
from optimize.study.claims.control import resume_stopped
from optimize.study.claims.perform import perform
from optimize.study.claims.triage import failure_kind, notable, why_stopped
from optimize.study.handle import Handle
from optimize.study.workers.process import EXIT_FAILING, ground_source, run_claims
from tests.optimize.study.databases import Small
from tests.optimize.study.failing import report_of, trainer
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    never,
    opened,
    play,
    rows,
    run_of,
    states,
    unchanged,
)


class TorchlikeError(RuntimeError):
    pass


def sqlite_error(code: int, name: str, message: str) -> DBAPIError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return OperationalError("SELECT 1", {}, error)


def wrapped(cause: BaseException) -> BaseException:
    error = optuna.exceptions.StorageInternalError("see the cause")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (KeyError("no memory of this"), "bug"),
        (ValueError("a lapse of memory"), "bug"),
        (TorchlikeError("shared memory is a fine thing"), "bug"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError("[Errno 28] Error writing bytes. Detail: [errno 28] No space left on device"), "disk"),
        (OSError("94176 requested and 61408 written"), "disk"),  # as numpy words it
        (sqlite_error(13, "SQLITE_FULL", "database or disk is full"), "disk"),
        (sqlite_error(5, "SQLITE_BUSY", "database is locked"), "database"),
        (sqlite_error(1, "SQLITE_ERROR", "no such table: x"), "bug"),
        (wrapped(sqlite_error(10, "SQLITE_IOERR_READ", "disk I/O error")), "database"),
        (NumericError("the loss is not finite"), "numeric"),
        (DownloadError("the source is away"), "data"),
        (BadInputError("agent.batch_size=1 is not allowed"), "config"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_the_kind_of_a_failure_is_exact(error: Exception, kind: str) -> None:
    assert failure_kind(error) == kind


def decisions(handle: Handle) -> list[EventRecord]:
    with handle.engine.connect() as conn:
        return events(conn, handle.spec.name, "triage")


def test_a_passing_failure_is_tried_once_more_after_its_last_window(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = trainer(monkeypatch, lambda n: MemoryError() if n == 1 else None)
    handle = opened(small(n_trials=1))
    first = claimed(handle)
    run = perform(handle, first, never)
    assert (run.state, run.failure_kind, states(handle)) == ("RETRIED", "oom", {"RUNNING": 1})
    assert play(handle) is Verdict.FULL
    assert states(handle) == {"COMPLETE": 1}
    assert len(calls) == 3  # the window that was done is not trained again
    again = run_of(handle, 0)
    assert (again.parameters, again.entropy, again.attempt) == (first.run.parameters, first.run.entropy, 2)
    with handle.engine.connect() as conn:
        assert len(windows_of(conn, again.run_uuid)) == 2
    (decision,) = decisions(handle)
    assert decision.detail["action"] == "retried"
    assert "trial 0 retried" in decision.message


def test_a_failure_that_comes_back_and_one_that_would_are_skipped(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {0: MemoryError(), 1: MemoryError(), 2: ZeroDivisionError("broken")}
    trainer(monkeypatch, errors.get)
    handle = opened(small(n_trials=1))
    assert play(handle) is Verdict.FULL
    assert states(handle) == {"FAIL": 2, "COMPLETE": 1}
    assert [(each.detail["action"], each.detail["trial"]) for each in decisions(handle)] == [
        ("retried", 0),
        ("skipped", 0),
        ("skipped", 1),
    ]
    assert handle.study.best_trial.number == 2


def test_a_failed_trial_teaches_the_sampler_nothing(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(monkeypatch, lambda n: ZeroDivisionError("broken") if n == 0 else None)
    handle = opened(small(n_trials=1))
    play(handle)
    failure = handle.study.trials[0]
    assert (failure.state.name, failure.value) == ("FAIL", None)


@pytest.mark.parametrize(("kind", "state"), [("timeout", "RETRIED"), ("bug", "FAIL")])
def test_a_killed_worker_has_its_trial_tried_once_more_or_failed(small: Small, kind: str, state: str) -> None:
    handle = opened(small(n_trials=1))
    first = claimed(handle)
    assert fail_claimed(handle, first.lease, kind, "it ran for over 5 s").state == state
    assert states(handle) == {"RUNNING": 1} if state == "RETRIED" else {"FAIL": 1}
    if state == "RETRIED":
        again = claimed(handle)
        assert (again.run.trial_number, again.lease.losses) == (0, 0)
        assert fail_claimed(handle, again.lease, kind, "and again").state == "FAIL"
        assert states(handle) == {"FAIL": 1}
    assert not rows(handle.spec, "SELECT * FROM wf_leases")


def test_a_systematic_failure_stops_the_study_for_all_workers_until_it_is_launched_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(monkeypatch, lambda n: RuntimeError(f"batch {n} of nothing"))
    handle = opened(small(n_trials=20, max_failures=100))
    assert run_claims(handle, 0, never) == EXIT_FAILING
    assert states(handle) == {"FAIL": 3}
    other = opened(handle.spec)
    assert claim(other, 7, ground_source(other)) is Verdict.SYSTEMATIC
    why = why_stopped(other)
    assert "3 of the last 3 trials failed in the same way" in why
    assert "RuntimeError: batch" in why
    assert "mend the cause" in why
    monkeypatch.setattr(trial_module, "train", train_agent)
    assert "launch resumes it" in str(resume_stopped(other))
    assert play(other, 1) is None
    assert states(other) == {"FAIL": 3, "COMPLETE": 1}


def test_failures_in_a_row_stop_the_study_whatever_they_say(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["north", "south", "west", "east", "up", "down"]
    trainer(monkeypatch, lambda n: RuntimeError(words[n]))
    handle = opened(small(n_trials=20, max_failures=100, max_consecutive_failures=4))
    assert run_claims(handle, 0, never) == EXIT_FAILING
    assert states(handle) == {"FAIL": 4}
    assert "4 trials in a row failed" in why_stopped(handle)


def test_a_lost_worker_never_stops_a_study(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = change_windows(monkeypatch, unchanged)
    handle = opened(small(n_trials=1, max_failures=100, max_consecutive_failures=1))
    for _ in range(3):
        fail_claimed(handle, claimed(handle).lease, "stale", "lost")
    assert play(handle) is Verdict.FULL
    assert ran == [0, 1]


def test_a_study_that_is_nearly_there_says_so(small: Small) -> None:
    assert notable(183, 200, "x") == "; 183 of 200 finished, enough to read: `walkforge leaderboard name=x`"
    assert [notable(done, 200, "x") for done in (179, 200)] == ["", ""]
    spec = small()
    assert dataclasses.replace(spec, max_consecutive_failures=1).max_consecutive_failures == 1
    with pytest.raises(BadInputError, match="max_consecutive_failures"):
        dataclasses.replace(spec, max_consecutive_failures=0)


def test_the_report_tells_causes_actions_and_the_verdict(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {
        0: MemoryError("no room"),
        3: MemoryError("no room"),
        4: MemoryError("no room"),
        5: KeyError("x"),
    }
    trainer(monkeypatch, errors.get)
    handle = opened(small(n_trials=10))
    assert report_of(handle).verdict == "none"
    play(handle)
    report = report_of(handle)
    oom, bug = report.causes
    assert (oom.kind, oom.count, oom.retried, oom.skipped, oom.first_trial) == ("oom", 3, 2, 1, 0)
    assert oom.first_message == "MemoryError: no room"
    assert oom.action == "2 retried (the cause may pass), 1 skipped (it failed again)"
    assert (bug.kind, bug.action) == ("bug", "1 skipped (the same parameters and seeds would fail again)")
    assert (report.verdict, report.stopped) == ("random", False)
    assert "2 of 12 ended trials failed (16.7 %)" in report.why
    assert (report.done, report.progress) == (10, "10 of 10 finished (100.0 %), 2 failed")


def test_the_report_of_a_study_that_stopped_itself_near_its_cap(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(monkeypatch, lambda n: RuntimeError("no more") if n >= 18 else None)
    handle = opened(small(n_trials=10))
    assert run_claims(handle, 0, never) == EXIT_FAILING
    report = report_of(handle)
    assert (report.verdict, report.stopped) == ("systematic", True)
    assert report.progress == "9 of 10 finished (90.0 %), 5 failed: enough to read"
