"""A cap that is lowered under way binds the trials that nobody runs as well."""

import dataclasses

import pytest

from optimize.cli.status import study_status
from optimize.results import leases
from optimize.results.records import events, set_cap
from optimize.study.claims.caps import Claim, Verdict, claim
from optimize.study.claims.perform import StopRequestedError, perform
from optimize.study.claims.triage import ended_trials
from optimize.study.handle import Handle
from optimize.study.spec import WorkerSpec
from optimize.study.workers.process import ground_source
from tests.optimize.study.databases import Small, record
from tests.optimize.study.studies import claimed, opened, play, rows, states

BATCH = WorkerSpec(count=1, mode="batch", batch_size=6)


def lower(handle: Handle, cap: int) -> None:
    with handle.engine.begin() as conn:
        set_cap(conn, handle.spec.name, cap)


def record_all(handle: Handle) -> tuple[int, Verdict]:
    """Record every trial that is handed out; return how many, and why there is no more."""
    started, lay = 0, ground_source(handle)
    while isinstance(found := claim(handle, 0, lay), Claim):
        started += 1
        record(handle, found, 1.0)
    return started, found


def test_what_is_left_of_a_batch_is_closed_and_is_no_failure(small: Small) -> None:
    handle = opened(small(n_trials=20, worker=BATCH, max_failures=1))
    record(handle, claimed(handle), 1.0)
    lower(handle, 2)
    assert record_all(handle) == (1, Verdict.FULL)
    assert states(handle) == {"COMPLETE": 2, "FAIL": 4}
    assert [trial.number for trial in handle.study.trials if "closed" in trial.user_attrs] == [2, 3, 4, 5]
    with handle.engine.connect() as conn:
        assert [each.state for each in ended_trials(conn, "small")] == ["COMPLETE", "COMPLETE"]
        (event,) = events(conn, "small", "closed")
    assert event.message.startswith("trials 2, 3, 4, 5 closed: over the lowered cap of 2")
    status = study_status(handle.engine, "small")
    assert (status["complete"], status["running"], status["failed"], status["remaining"]) == (2, 0, 0, 0)
    lower(handle, 4)  # its one failure is not used up
    assert record_all(handle) == (2, Verdict.FULL)
    assert states(handle) == {"COMPLETE": 4, "FAIL": 4}


def test_trials_that_were_given_back_before_a_window_are_closed_the_highest_first(small: Small) -> None:
    handle = opened(small(n_trials=20))
    record(handle, claimed(handle), 1.0)
    for found in [claimed(handle, worker) for worker in range(4)]:
        with handle.engine.begin() as conn:
            leases.abandon(conn, found.lease)
    lower(handle, 3)
    assert record_all(handle) == (2, Verdict.FULL)
    assert [trial.state.name for trial in handle.study.trials] == ["COMPLETE"] * 3 + ["FAIL"] * 2
    assert not rows(handle.spec, "SELECT * FROM wf_leases")


def test_a_trial_with_a_finished_window_may_end_above_the_cap(small: Small) -> None:
    handle = opened(small(n_trials=20))
    record(handle, claimed(handle), 1.0)
    living, begun, fresh = (claimed(handle, worker) for worker in range(3))
    with pytest.raises(StopRequestedError):
        perform(handle, begun, lambda: True)
    with handle.engine.begin() as conn:
        leases.abandon(conn, fresh.lease)
    lower(handle, 1)
    taken = claimed(handle)
    assert taken.run.trial_number == begun.run.trial_number
    assert handle.study.trials[fresh.run.trial_number].state.name == "FAIL"
    for found in (taken, living):  # who runs is left alone
        record(handle, found, 1.0)
    assert record_all(handle) == (0, Verdict.FULL)
    assert states(handle) == {"COMPLETE": 3, "FAIL": 1}


def test_a_cap_that_is_not_lowered_closes_nothing(small: Small) -> None:
    handle = opened(small(n_trials=3))
    handle.study.ask()
    again = opened(dataclasses.replace(handle.spec, n_trials=2))
    assert play(again) is Verdict.FULL
    assert states(handle) == {"COMPLETE": 2}
