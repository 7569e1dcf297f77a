"""A fiftieth of the fuzz, from one seed: every refusal is one line, and nothing runs code."""

from pathlib import Path

import pytest

from benchmarks.fuzz import FULL, Ended, fuzz, why_wrong
from benchmarks.fuzz_commands import CANARY, Case


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fiftieth_of_the_fuzz_finds_nothing(tmp_path: Path) -> None:
    found = fuzz(tmp_path, seed=0, count=FULL // 50, processes=1)
    assert found["wrong"] == []
    assert found["commands"] >= FULL // 50


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        (Ended(2, "", "walkforge: name is missing\n", 0.1), None),
        (Ended(None, "", "", 60.0), "did not end in time"),
        (Ended(0, "", "", 0.1), "was accepted"),
        (Ended(3, "", "walkforge: x\n", 0.1), "exit code 3"),
        (Ended(2, "", "", 0.1), "ends without a line"),
        (
            Ended(1, "", "walkforge: a defect of walkforge (X)\n", 0.1),
            "shows 'a defect of walkforge'",
        ),
        (Ended(2, "", "walkforge: str is not a ListConfig\n", 0.1), "shows 'ListConfig'"),
        (Ended(2, "", "walkforge: sesame-sesame-open\n", 0.1), "shows a secret"),
        (Ended(2, "", "walkforge: a\nwalkforge: b\n", 0.1), "ends with more than one line"),
    ],
)
def test_what_is_wrong_is_seen(tmp_path: Path, ended: Ended, why: str | None) -> None:
    assert why_wrong(Case("value", ["study", "x=1"], refused=True), ended, tmp_path) == why


def test_code_that_ran_is_seen(tmp_path: Path) -> None:
    (tmp_path / CANARY).touch()
    ended = Ended(2, "", "walkforge: x\n", 0.1)
    assert why_wrong(Case("yaml", ["study"], refused=True), ended, tmp_path) == "ran code"
