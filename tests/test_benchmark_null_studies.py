"""Studies on noise run through the whole pipeline, go on where they were stopped, and are counted."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import null_studies
from benchmarks.null_studies import kept, run_missing, summary
from benchmarks.null_table import null_studies as as_table
from tests.optimize.study.forks import forked_workers

__all__ = ["forked_workers"]

STUDY: dict[str, Any] = {
    "seed": 0, "score": 2.0, "found": False, "sessions": 150, "selection": -1.0, "fresh": -0.5,
    "lower_bound": -2.0, "exported": False, "holdout": None,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_two_studies_on_noise_end_in_one_discovery_at_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null_studies, "QUICK", 2)
    monkeypatch.setattr(null_studies, "FINALISTS", 2)
    monkeypatch.setattr(null_studies, "SEEDS", 2)
    monkeypatch.setattr(sys, "argv", ["null_studies.py", "--quick"])
    null_studies.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["studies"] == 2
    assert result["found"] <= 1  # seed 0 is one of the few that chance favours: p is below 5 % there
    assert result["sessions"] > 100
    assert result["means"]["score"] > result["means"]["selection"], (
        "the best score flatters, the selection does not"
    )


def test_discoveries_are_counted() -> None:
    exported = STUDY | {"exported": True, "holdout": -3.0}
    found = summary([STUDY, exported, exported | {"found": True, "lower_bound": 0.5}])
    counted = {key: found[key] for key in ("studies", "exported", "found", "exported_and_found")}
    assert counted == {"studies": 3, "exported": 2, "found": 1, "exported_and_found": 1}
    assert found["fresh_above_zero"] == 1
    assert found["means"] == {"score": 2.0, "selection": -1.0, "fresh": -0.5, "holdout": -3.0}
    assert "| the verdict is FOUND | 1 of 3 |" in as_table(found)


def test_a_run_goes_on_with_the_seeds_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "studies.jsonl"
    path.write_text(json.dumps(STUDY | {"seed": 1}) + "\n")
    monkeypatch.setattr(null_studies, "STUDIES", 3)
    monkeypatch.setattr(
        null_studies, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count)
    )
    monkeypatch.setattr(null_studies, "run_one", lambda seed: STUDY | {"seed": seed})
    run_missing(path, 1)
    assert [each["seed"] for each in kept(path)] == [1, 0, 2]
