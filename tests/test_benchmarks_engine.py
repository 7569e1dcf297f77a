"""The engine's benchmark runs, counts exactly, and hears of no lock error."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_it_ends_with_one_json_line() -> None:
    command = [sys.executable, "benchmarks/engine.py", "--tiny"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["exact"] is True
    assert result["crowd"]["engine"]["errors"] == result["crowd"]["optuna"]["errors"] == []
    (measured,) = result["overhead_ms"].values()
    above = measured["engine claim"] - measured["optuna ask in memory"]
    assert measured["claim above memory"] == above
    assert result["reached"] == (above <= result["target_ms"])
