"""Chance or a cause: the failures at which a study stops."""

import random

import pytest

from optimize.results.states import RunState
from optimize.study.failures.policy import Ended, FailurePolicy, assess

OK = Ended(0, RunState.COMPLETE)
STALE = Ended(0, RunState.FAIL, "stale", "the trial lost its worker 2 times")


def failed(message: str, kind: str = "bug") -> Ended:
    return Ended(0, RunState.FAIL, kind, message)


DIFFERENT = [failed(f"{word} is broken") for word in ("north", "south", "west", "east", "up")]


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        ([], "none"),
        ([OK, OK], "none"),
        ([OK, *DIFFERENT[:4]], "random"),
        ([OK, *DIFFERENT], "systematic"),  # five in a row, each with another message
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
    found = assess(ended, FailurePolicy(max_consecutive=5))
    assert (found.kind, found.action) == (kind, "stop" if kind == "systematic" else "go on")
    assert found.why


def test_a_chance_failure_rate_stops_no_long_study() -> None:
    rng, stopped = random.Random(0), 0
    for _ in range(60):
        ended: list[Ended] = []
        for number in range(1000):
            fails = rng.random() < 0.05
            ended.append(Ended(number, RunState.FAIL, "numeric", "loss is NaN") if fails else OK)
            if fails and assess(ended[-20:], FailurePolicy()).action == "stop":
                stopped += 1
                break
    assert stopped <= 1


def test_how_many_alike_are_too_many_can_be_chosen() -> None:
    rare = [OK, OK, failed("at step 17"), OK, failed("at step 18"), OK]
    assert assess(rare, FailurePolicy(max_alike=2)).action == "go on"
    assert assess(rare[:-1], FailurePolicy(max_alike=2)).action == "stop"
    found = assess(rare, FailurePolicy())
    assert found.why == (
        "2 of 6 ended trials failed (33.3 %), 2 of them in the same way (bug: at step 18): "
        "too seldom to blame the study for it"
    )
