"""The benchmarks of evaluations and of whole trials run, and end with one JSON line of their ratios."""

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks import evaluation, trials
from tests.conftest import REPOSITORY


def tiny(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, f"benchmarks/{name}.py", "--tiny", *options]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env={})
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert result["benchmark"] == name
    return result


@pytest.mark.slow
def test_evaluation() -> None:
    result = tiny("evaluation")
    detail = result["detail"]["d33"]
    assert set(detail["seconds"]) == {"dummy", "single", "lockstep", "fused"}
    for way in evaluation.TARGETS:
        assert result[f"{way}_8x2000"] == result[f"{way}_d33"] == detail[way] > 0


@pytest.mark.slow
def test_trials() -> None:
    result = tiny("trials", "--only", "d33")
    assert result["trial_d33"] == result["detail"]["d33"]["ratio"] > 0
    assert len(result["detail"]["d33"]["test_bars"]) == trials.WINDOWS


def test_the_sizes_are_what_their_keys_say() -> None:
    for key, lookback in trials.LOOKBACKS.items():
        spec = trials.make_spec(lookback, tiny=True)
        windowed = trials.make_market(spec)
        assert f"d{lookback * windowed.market.features.shape[2] + 3}" == key
    assert evaluation.LOOKBACKS == trials.LOOKBACKS
    assert trials.WINDOWS * trials.STEPS == 20_480
    assert trials.STEPS % trials.SETTINGS["n_steps"] == 0  # else both engines would train on
