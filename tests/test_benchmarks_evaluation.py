"""The benchmarks of evaluations and of whole trials run, and end with one JSON line of their ratios."""

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from benchmarks import evaluation, trials

Tiny = Callable[..., dict[str, Any]]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tiny:
    """Return a function that runs a benchmark to see that it works, and returns the line it ends with."""

    def run(benchmark: ModuleType, *options: str) -> dict[str, Any]:
        name = benchmark.__name__.rpartition(".")[2]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--tiny", *options])
        benchmark.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["benchmark"] == name
        return result

    return run


@pytest.mark.slow
def test_evaluation(tiny: Tiny) -> None:
    result = tiny(evaluation)
    detail = result["detail"]["d33"]
    assert set(detail["seconds"]) == {"dummy", "single", "lockstep", "fused"}
    for way in evaluation.TARGETS:
        assert result[f"{way}_8x2000"] == result[f"{way}_d33"] == detail[way] > 0


@pytest.mark.slow
def test_trials(tiny: Tiny) -> None:
    result = tiny(trials, "--only", "d33")
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
