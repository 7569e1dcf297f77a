"""A failed trial is tried once more or skipped, and the decision is logged."""

import pytest

from optimize.results.event_log import Logged, events
from optimize.results.events import FailureHandled
from optimize.results.runs import windows_of
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial
from optimize.study.trials.claim import fail_claimed
from optimize.study.trials.execute import perform
from tests.optimize.study.databases import Small
from tests.optimize.study.failing import trainer
from tests.optimize.study.studies import claimed, never, opened, play, rows, run_of, states


def decisions(context: StudyContext) -> list[Logged[FailureHandled]]:
    with context.engine.connect() as conn:
        return events(conn, context.spec.name, FailureHandled)


def test_a_passing_failure_is_tried_once_more_after_its_last_window(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = trainer(monkeypatch, lambda n: MemoryError() if n == 1 else None)
    context = opened(small(n_trials=1))
    first = claimed(context)
    run = perform(context, first, never)
    assert (run.state, run.failure_kind, states(context)) == ("RETRIED", "oom", {"RUNNING": 1})
    assert play(context) is NoTrial.FULL
    assert states(context) == {"COMPLETE": 1}
    assert len(calls) == 3  # the window that was done is not trained again
    again = run_of(context, 0)
    assert (again.parameters, again.entropy, again.attempt) == (first.run.parameters, first.run.entropy, 2)
    with context.engine.connect() as conn:
        assert len(windows_of(conn, again.run_uuid)) == 2
    (decision,) = decisions(context)
    assert decision.event.action == "retried"
    assert "trial 0 retried" in decision.message


def test_a_failure_that_comes_back_and_one_that_would_are_skipped(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {0: MemoryError(), 1: MemoryError(), 2: ZeroDivisionError("broken")}
    trainer(monkeypatch, errors.get)
    context = opened(small(n_trials=1))
    assert play(context) is NoTrial.FULL
    assert states(context) == {"FAIL": 2, "COMPLETE": 1}
    assert [(each.event.action, each.event.trial) for each in decisions(context)] == [
        ("retried", 0),
        ("skipped", 0),
        ("skipped", 1),
    ]
    assert context.study.best_trial.number == 2


def test_a_failed_trial_teaches_the_sampler_nothing(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(monkeypatch, lambda n: ZeroDivisionError("broken") if n == 0 else None)
    context = opened(small(n_trials=1))
    play(context)
    failure = context.study.trials[0]
    assert (failure.state.name, failure.value) == ("FAIL", None)


@pytest.mark.parametrize(("kind", "state"), [("timeout", "RETRIED"), ("bug", "FAIL")])
def test_a_killed_worker_has_its_trial_tried_once_more_or_failed(small: Small, kind: str, state: str) -> None:
    context = opened(small(n_trials=1))
    first = claimed(context)
    assert fail_claimed(context, first.lease, kind, "it ran for over 5 s").state == state
    assert states(context) == {"RUNNING": 1} if state == "RETRIED" else {"FAIL": 1}
    if state == "RETRIED":
        again = claimed(context)
        assert (again.run.trial_number, again.lease.losses) == (0, 0)
        assert fail_claimed(context, again.lease, kind, "and again").state == "FAIL"
        assert states(context) == {"FAIL": 1}
    assert not rows(context.spec, "SELECT * FROM wf_leases")
