"""A cap that is lowered under way binds the trials that nobody runs as well."""

import dataclasses

import pytest

from optimize.cli.status import study_status
from optimize.results import leases
from optimize.results.event_log import events
from optimize.results.events import TrialsClosed
from optimize.results.records import set_cap
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.failures.stops import ended_trials
from optimize.study.spec import WorkerSpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.study.workers.process import market_builder
from tests.optimize.study.databases import Small, record
from tests.optimize.study.studies import claimed, opened, play, rows, states

BATCH = WorkerSpec(count=1, mode="batch", batch_size=6)


def lower(context: StudyContext, cap: int) -> None:
    with context.engine.begin() as conn:
        set_cap(conn, context.spec.name, cap)


def record_all(context: StudyContext) -> tuple[int, NoTrial]:
    """Record every trial that is handed out; return how many, and why there is no more."""
    started, lay = 0, market_builder(context)
    while isinstance(found := claim(context, 0, lay), Claim):
        started += 1
        record(context, found, 1.0)
    return started, found


def test_what_is_left_of_a_batch_is_closed_and_is_no_failure(small: Small) -> None:
    context = opened(small(n_trials=20, worker=BATCH, max_failures=1))
    record(context, claimed(context), 1.0)
    lower(context, 2)
    assert record_all(context) == (1, NoTrial.FULL)
    assert states(context) == {"COMPLETE": 2, "FAIL": 4}
    assert [trial.number for trial in context.study.trials if "closed" in trial.user_attrs] == [2, 3, 4, 5]
    with context.engine.connect() as conn:
        assert [each.state for each in ended_trials(conn, "small")] == ["COMPLETE", "COMPLETE"]
        (logged,) = events(conn, "small", TrialsClosed)
    assert logged.message.startswith("trials 2, 3, 4, 5 closed: over the lowered cap of 2")
    status = study_status(context.engine, "small")
    assert (status["complete"], status["running"], status["failed"], status["remaining"]) == (2, 0, 0, 0)
    lower(context, 4)  # its one failure is not used up
    assert record_all(context) == (2, NoTrial.FULL)
    assert states(context) == {"COMPLETE": 4, "FAIL": 4}


def test_trials_that_were_given_back_before_a_window_are_closed_the_highest_first(small: Small) -> None:
    context = opened(small(n_trials=20))
    record(context, claimed(context), 1.0)
    for found in [claimed(context, worker) for worker in range(4)]:
        with context.engine.begin() as conn:
            leases.abandon(conn, found.lease)
    lower(context, 3)
    assert record_all(context) == (2, NoTrial.FULL)
    assert [trial.state.name for trial in context.study.trials] == ["COMPLETE"] * 3 + ["FAIL"] * 2
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def test_a_trial_with_a_finished_window_may_end_above_the_cap(small: Small) -> None:
    context = opened(small(n_trials=20))
    record(context, claimed(context), 1.0)
    living, begun, fresh = (claimed(context, worker) for worker in range(3))
    with pytest.raises(StopRequestedError):
        perform(context, begun, lambda: True)
    with context.engine.begin() as conn:
        leases.abandon(conn, fresh.lease)
    lower(context, 1)
    taken = claimed(context)
    assert taken.run.trial_number == begun.run.trial_number
    assert context.study.trials[fresh.run.trial_number].state.name == "FAIL"
    for found in (taken, living):  # who runs is left alone
        record(context, found, 1.0)
    assert record_all(context) == (0, NoTrial.FULL)
    assert states(context) == {"COMPLETE": 3, "FAIL": 1}


def test_a_cap_that_is_not_lowered_closes_nothing(small: Small) -> None:
    context = opened(small(n_trials=3))
    context.study.ask()
    again = opened(dataclasses.replace(context.spec, n_trials=2))
    assert play(again) is NoTrial.FULL
    assert states(context) == {"COMPLETE": 2}
