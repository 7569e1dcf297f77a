"""The report and the status of a study name causes, actions and the verdict."""

import pytest

from optimize.study.workers.process import EXIT_FAILING, run_claims
from tests.optimize.study.databases import Small
from tests.optimize.study.failing import report_of, status_of, trainer
from tests.optimize.study.studies import never, opened, play


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
    context = opened(small(n_trials=10))
    assert report_of(context).verdict == "none"
    play(context)
    report = report_of(context)
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
    context = opened(small(n_trials=10))
    assert run_claims(context, 0, never) == EXIT_FAILING
    report = report_of(context)
    assert (report.verdict, report.stopped) == ("systematic", True)
    assert report.progress == "9 of 10 finished (90.0 %), 5 failed: enough to read"


def test_status_says_that_nobody_works_on_orphans_and_that_a_retry_is_no_failure(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(monkeypatch, lambda n: MemoryError("no room") if n == 0 else None)
    context = opened(small(n_trials=1))
    play(context, 1)
    said = status_of(context)
    assert "no process runs trials of small now" in said  # though the cap leaves no trial to start
    assert "small: none: 1 runs failed and were tried once more, no trial failed for good" in said
    assert "nothing failed" not in said
