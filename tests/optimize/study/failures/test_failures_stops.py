"""A study stops itself when its failures have one cause or are too many."""

import dataclasses

import pytest

from optimize.agents.sb3.train import train as train_agent
from optimize.errors import BadInputError
from optimize.study.control import NoTrial, resume_stopped
from optimize.study.failures.stops import enough_to_read, stop_message
from optimize.study.trials.claim import claim, fail_claimed
from optimize.study.workers.process import EXIT_FAILING, market_builder, run_claims
from optimize.walkforward import run as trial_module
from tests.optimize.study.databases import Small
from tests.optimize.study.failing import report_of, status_of, trainer
from tests.optimize.study.studies import change_windows, claimed, never, opened, play, states, unchanged


def test_a_systematic_failure_stops_the_study_for_all_workers_until_it_is_launched_again(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(monkeypatch, lambda n: RuntimeError(f"batch {n} of nothing"))
    context = opened(small(n_trials=20, max_failures=100))
    assert run_claims(context, 0, never) == EXIT_FAILING
    assert states(context) == {"FAIL": 3}
    other = opened(context.spec)
    assert claim(other, 7, market_builder(other)) is NoTrial.SYSTEMATIC
    why = stop_message(other)
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
    context = opened(small(n_trials=20, max_failures=100, max_consecutive_failures=4))
    assert run_claims(context, 0, never) == EXIT_FAILING
    assert states(context) == {"FAIL": 4}
    assert "4 trials in a row failed" in stop_message(context)


def test_a_lost_worker_never_stops_a_study(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = change_windows(monkeypatch, unchanged)
    context = opened(small(n_trials=1, max_failures=100, max_consecutive_failures=1))
    for _ in range(3):
        fail_claimed(context, claimed(context).lease, "stale", "lost")
    assert play(context) is NoTrial.FULL
    assert ran == [0, 1]


def test_a_study_that_is_nearly_there_says_so(small: Small) -> None:
    assert (
        enough_to_read(183, 200, "x")
        == "; 183 of 200 finished, enough to read: `walkforge leaderboard name=x`"
    )
    assert [enough_to_read(done, 200, "x") for done in (179, 200)] == ["", ""]
    spec = small()
    assert dataclasses.replace(spec, max_consecutive_failures=1).max_consecutive_failures == 1
    with pytest.raises(BadInputError, match="max_consecutive_failures"):
        dataclasses.replace(spec, max_consecutive_failures=0)


def test_too_many_failures_stop_the_study_and_say_so(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {0: MemoryError("no room"), 1: MemoryError("no room"), 6: KeyError("x")}
    trainer(monkeypatch, errors.get)
    context = opened(small(n_trials=9, max_failures=2))
    assert play(context) is NoTrial.FAILING
    report = report_of(context)
    assert (report.verdict, report.stopped, report.why) == ("random", True, "max_failures=2 trials failed")
    assert [cause.stopped for cause in report.causes] == [True, True]
    assert all(cause.action.endswith("and the study stopped for it") for cause in report.causes)
    assert claim(context, 0, market_builder(context)) is NoTrial.SYSTEMATIC  # whoever asks next leaves too
    assert "then launch it again with a higher max_failures" in stop_message(context)
    said = status_of(context)
    assert "small stopped itself: max_failures=2 trials failed: see `walkforge status" in said
    resume_stopped(context)
    assert play(context) is NoTrial.FAILING  # as before, and more is allowed only where that is asked for
    more = opened(dataclasses.replace(context.spec, max_failures=5))
    resume_stopped(more)
    assert play(more, 1) is None
