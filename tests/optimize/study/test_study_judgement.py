"""Chance or a cause: when failures stop a study, and what is said about it."""

import contextlib
import dataclasses
import io
import random

import pytest

from optimize.cli.status import status
from optimize.compose import StatusConfig
from optimize.study.claims.caps import Verdict, claim
from optimize.study.claims.control import resume_stopped
from optimize.study.claims.judgement import Ended, Policy, judge
from optimize.study.claims.triage import why_stopped
from optimize.study.handle import Handle
from optimize.study.workers.process import ground_source
from tests.optimize.study.databases import Small
from tests.optimize.study.failing import report_of, trainer
from tests.optimize.study.studies import opened, play

OK = Ended(0, "COMPLETE")
STALE = Ended(0, "FAIL", "stale", "the trial lost its worker 2 times")


def failed(message: str, kind: str = "bug") -> Ended:
    return Ended(0, "FAIL", kind, message)


DIFFERENT = [failed(f"{word} is broken") for word in ("north", "south", "west", "east", "up")]


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        ([], "none"),
        ([OK, OK], "none"),
        ([OK, *DIFFERENT[:4]], "random"),
        ([OK, *DIFFERENT], "systematic"),  # five in a row, whatever they say
        ([*DIFFERENT, OK], "random"),
        ([*DIFFERENT[:3], STALE, STALE, *DIFFERENT[3:]], "systematic"),  # lost workers end no row
        ([STALE] * 9, "none"),  # nor make one
        ([failed("at step 17\nmore"), failed("at step 18"), failed("at step 2.5e-3")], "systematic"),
        ([OK, failed("at step 17")] * 6, "systematic"),  # 6 of the last 11
        ([OK, failed("at step 17")] * 5 + [OK, OK, failed("at step 3")], "random"),
        ([OK, failed("at step 17"), failed("at step 18"), failed("at step 2.5e-3")], "random"),
        ([failed("out", "oom"), failed("out"), failed("out", "timeout")], "random"),
        ([failed("no 0x7f12ab"), failed("no 0x7f12ac"), failed("no 0x1")], "systematic"),
    ],
)  # fmt: skip
def test_a_row_or_a_repeated_cause_is_systematic(ended: list[Ended], kind: str) -> None:
    found = judge(ended, Policy(max_consecutive=5))
    assert (found.kind, found.action) == (kind, "stop" if kind == "systematic" else "go on")
    assert found.why


def test_a_chance_failure_rate_stops_no_long_study() -> None:
    rng, stopped = random.Random(0), 0
    for _ in range(60):
        ended: list[Ended] = []
        for number in range(1000):
            fails = rng.random() < 0.05
            ended.append(Ended(number, "FAIL", "numeric", "loss is NaN") if fails else OK)
            if fails and judge(ended[-20:], Policy()).action == "stop":
                stopped += 1
                break
    assert stopped <= 1


def test_how_many_alike_are_too_many_can_be_chosen() -> None:
    rare = [OK, OK, failed("at step 17"), OK, failed("at step 18"), OK]
    assert judge(rare, Policy(max_alike=2)).action == "go on"
    assert judge(rare[:-1], Policy(max_alike=2)).action == "stop"
    found = judge(rare, Policy())
    assert found.why == (
        "2 of 6 ended trials failed (33.3 %), 2 of them in the same way (bug: at step 18): "
        "too seldom to blame the study for it"
    )


def test_too_many_failures_stop_the_study_and_say_so(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {0: MemoryError("no room"), 1: MemoryError("no room"), 6: KeyError("x")}
    trainer(monkeypatch, errors.get)
    handle = opened(small(n_trials=9, max_failures=2))
    assert play(handle) is Verdict.FAILING
    report = report_of(handle)
    assert (report.verdict, report.stopped, report.why) == ("random", True, "max_failures=2 trials failed")
    assert [cause.stopped for cause in report.causes] == [True, True]
    assert all(cause.action.endswith("and the study stopped for it") for cause in report.causes)
    assert claim(handle, 0, ground_source(handle)) is Verdict.SYSTEMATIC  # whoever asks next leaves too
    assert "then launch it again with a higher max_failures" in why_stopped(handle)
    said = status_of(handle)
    assert "small stopped itself: max_failures=2 trials failed: see `walkforge status" in said
    resume_stopped(handle)
    assert play(handle) is Verdict.FAILING  # as before, and more is allowed only where that is asked for
    more = opened(dataclasses.replace(handle.spec, max_failures=5))
    resume_stopped(more)
    assert play(more, 1) is None


def status_of(handle: Handle) -> str:
    """Return what `walkforge status` says, then with failures=true."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for failures in (False, True):
            status(StatusConfig(name="small", failures=failures, database=handle.spec.database))
    return said.getvalue()


def test_status_says_that_nobody_works_on_orphans_and_that_a_retry_is_no_failure(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(monkeypatch, lambda n: MemoryError("no room") if n == 0 else None)
    handle = opened(small(n_trials=1))
    play(handle, 1)
    said = status_of(handle)
    assert "nobody works on small now" in said  # though the cap leaves no trial to start
    assert "small: none: 1 runs failed and were tried once more, no trial failed for good" in said
    assert "nothing failed" not in said
