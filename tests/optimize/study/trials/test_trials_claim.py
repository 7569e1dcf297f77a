"""The cap, take-over of lost trials, and the limit of failures, claim by claim."""

import dataclasses
from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from optimize.errors import StaleRunError
from optimize.results import leases
from optimize.results.records import Outcome
from optimize.results.runs import finish_run, save_window
from optimize.results.states import RunState
from optimize.study.context import StudyContext
from optimize.study.control import NoTrial, resume_stopped
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import StopRequestedError, perform
from optimize.study.trials.tell import tell, tell_finished
from optimize.study.workers.process import EXIT_FAILING, market_builder, run_claims
from optimize.walkforward import run as trial_module
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    expire,
    never,
    opened,
    play,
    rows,
    run_of,
    states,
    unchanged,
)

DONE = Outcome(RunState.COMPLETE, 1.0, score=1.25, metrics={"trades": 3.0})


def test_running_trials_count_and_a_full_study_waits_for_them(small: Small) -> None:
    context = opened(small(n_trials=2))
    lay = market_builder(context)
    first, second = claimed(context, 0), claimed(context, 1)
    assert claim(context, 2, lay) is NoTrial.WAIT
    perform(context, first, never)
    assert claim(context, 2, lay) is NoTrial.WAIT
    perform(context, second, never)
    assert claim(context, 2, lay) is NoTrial.FULL


def test_the_cap_moves_with_every_launch_and_never_takes_a_trial_back(small: Small) -> None:
    spec = small(n_trials=2)
    assert play(opened(spec)) is NoTrial.FULL
    for cap, expected in ((2, 2), (4, 4), (1, 4), (4, 4), (5, 5)):
        context = opened(dataclasses.replace(spec, n_trials=cap))
        assert play(context) is NoTrial.FULL
        assert states(context) == {"COMPLETE": expected}
        assert [trial.number for trial in context.study.trials] == list(range(expected))


def test_a_worker_obeys_the_cap_that_a_later_launch_stored(small: Small) -> None:
    spec = small(n_trials=10)
    context = opened(spec)
    play(context, 1)
    opened(dataclasses.replace(spec, n_trials=2))
    assert play(context) is NoTrial.FULL
    assert states(context) == {"COMPLETE": 2}


def test_a_taken_over_trial_keeps_number_parameters_seeds_and_windows(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = change_windows(monkeypatch, unchanged)
    context = opened(small(n_trials=1))
    lost = claimed(context, 0)

    def die(conn: Connection, *arguments: object) -> None:
        save_window(conn, *arguments)  # type: ignore[arg-type]  # passed through
        conn.commit()
        raise SystemExit

    monkeypatch.setattr("optimize.study.trials.execute.save_window", die)
    with pytest.raises(SystemExit):
        perform(context, lost, never)
    monkeypatch.setattr("optimize.study.trials.execute.save_window", save_window)
    expire(context.spec, 0)
    successor = claimed(context, 1)
    assert successor.run.trial_number == 0
    assert (successor.run.parameters, successor.entropy) == (lost.run.parameters, lost.entropy)
    assert (successor.run.attempt, successor.lease.losses) == (2, 0)
    assert [record.window for record in successor.adopted] == [0]
    run = perform(context, successor, never)
    assert ran == [0, 1]
    assert (run.state, states(context)) == ("COMPLETE", {"COMPLETE": 1})


def test_an_interrupted_trial_ends_with_the_score_of_an_uninterrupted_one(
    small: Small,
) -> None:
    whole = opened(small(name="whole", n_trials=1))
    play(whole)
    context = opened(small(name="broken", n_trials=1))
    with pytest.raises(Exception, match=r"^$"):
        perform(context, claimed(context), lambda: True)  # stopped after its first window
    perform(context, claimed(context), never)
    assert run_of(context, 0).score == run_of(whole, 0).score


def test_a_trial_that_was_asked_for_and_never_leased_is_taken(small: Small) -> None:
    context = opened(small(n_trials=2))
    context.study.ask()  # and the worker dies before it takes the lease
    found = claimed(context)
    assert found.run.trial_number == 0
    perform(context, found, never)
    assert play(context) is NoTrial.FULL
    assert states(context) == {"COMPLETE": 2}


def lose(context: StudyContext, found: Claim) -> None:
    """Count the loss of a worker that died alone, as its supervisor does."""
    with context.engine.begin() as conn:
        leases.count_loss(conn, found.lease)


def test_the_second_loss_in_one_window_fails_a_trial_as_stale_and_it_counts_in_no_limit(small: Small) -> None:
    context = opened(small(n_trials=2, max_failures=1))
    for attempt in (1, 2):
        found = claimed(context)
        assert found.run.attempt == attempt
        lose(context, found)
    found = claimed(context)
    assert found.run.trial_number == 1
    stale = run_of(context, 0)
    assert (stale.state, stale.failure_kind) == ("FAIL", "stale")
    assert "died 2 times within one window" in str(stale.failure_message)
    perform(context, found, never)
    assert play(context) is NoTrial.FULL
    assert states(context) == {"FAIL": 1, "COMPLETE": 2}


def test_a_trial_given_back_twice_is_no_loss(small: Small) -> None:
    context = opened(small(n_trials=1))
    for _ in range(4):
        found = claimed(context)
        with context.engine.begin() as conn:
            leases.abandon(conn, found.lease)
    assert claimed(context).lease.losses == 0
    assert states(context) == {"RUNNING": 1}


def test_a_finished_window_resets_the_losses_of_its_trial(small: Small) -> None:
    context = opened(small(n_trials=1))
    lose(context, claimed(context))
    with pytest.raises(StopRequestedError):
        perform(context, claimed(context), lambda: True)  # stopped after its first window
    lose(context, claimed(context))
    found = claimed(context)
    assert (found.lease.losses, len(found.adopted)) == (1, 1)
    assert perform(context, found, never).state == "COMPLETE"


def test_a_trial_whose_worker_and_supervisor_died_any_number_of_times_is_taken_over(small: Small) -> None:
    context = opened(small(n_trials=1))
    for _ in range(5):
        claimed(context)
        expire(context.spec, 0)
    assert claimed(context).lease.losses == 0
    assert states(context) == {"RUNNING": 1}


def test_a_lease_that_outlived_its_told_trial_goes_with_the_next_claim(small: Small) -> None:
    context = opened(small(n_trials=1))
    found = claimed(context)
    with context.engine.begin() as conn:
        run = finish_run(conn, found.lease, DONE)
    tell(context, run)  # and the worker is killed before it releases the lease
    expire(context.spec, 0)
    assert claim(context, 1, market_builder(context)) is NoTrial.FULL
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def test_a_trial_lost_once_and_then_given_back_is_not_failed(small: Small) -> None:
    context = opened(small(n_trials=1))
    lose(context, claimed(context))
    found = claimed(context)
    with context.engine.begin() as conn:
        leases.abandon(conn, found.lease)
    assert claimed(context).lease.losses == 1
    assert states(context) == {"RUNNING": 1}


def test_failures_have_their_own_limit(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    words = iter(["north", "south", "west", "east"])  # one word again and again would be systematic

    def train(*args: object, **options: object) -> None:
        raise RuntimeError(next(words))

    monkeypatch.setattr(trial_module, "train", train)
    context = opened(small(n_trials=1, max_failures=3))
    assert run_claims(context, 0, never) == EXIT_FAILING
    assert states(context) == {"FAIL": 3}
    more = opened(small(n_trials=1, max_failures=4))
    resume_stopped(more)
    assert run_claims(more, 0, never) == EXIT_FAILING
    assert states(more) == {"FAIL": 4}


@pytest.mark.parametrize("leased", [True, False])
def test_a_recorded_trial_is_told_and_not_run_again(small: Small, leased: bool) -> None:
    context = opened(small(n_trials=1))
    dead = claimed(context)
    with context.engine.begin() as conn:
        finish_run(conn, dead.lease, DONE)
        if not leased:
            leases.release(conn, dead.lease)
    if leased:
        tell_finished(context)
        assert states(context) == {"RUNNING": 1}  # its owner lives and reports it itself
        expire(context.spec, 0)
    assert claim(context, 1, market_builder(context)) is NoTrial.FULL
    assert context.study.best_value == 1.25
    assert rows(context.spec, "SELECT state FROM wf_runs") == [("COMPLETE",)]
    assert not rows(context.spec, "SELECT * FROM wf_leases")


def test_a_record_that_arrives_while_its_owner_is_judged_is_told_too(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small(n_trials=1))
    slow = claimed(context)
    expire(context.spec, 0)
    real = leases.lost

    def lost(
        conn: Connection, study: str, now: float, alive: Callable[[leases.Lease], bool]
    ) -> list[leases.Lease]:
        found = real(conn, study, now, alive)
        finish_run(conn, slow.lease, DONE)
        return found

    monkeypatch.setattr(leases, "lost", lost)
    assert claim(context, 1, market_builder(context)) is NoTrial.FULL
    assert context.study.best_value == 1.25
    assert rows(context.spec, "SELECT run_uuid, state FROM wf_runs") == [(slow.run.run_uuid, "COMPLETE")]


def test_a_fenced_off_run_cannot_write(small: Small) -> None:
    context = opened(small(n_trials=1))
    stalled = claimed(context)
    expire(context.spec, 0)
    claimed(context, 1)
    with pytest.raises(StaleRunError), context.engine.begin() as conn:
        finish_run(conn, stalled.lease, DONE)
    assert not rows(context.spec, "SELECT * FROM wf_runs WHERE score IS NOT NULL")
    assert states(context) == {"RUNNING": 1}
