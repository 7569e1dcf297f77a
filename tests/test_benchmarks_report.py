"""RESULTS.md is written from the last results of the benchmarks, and names each missed target."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import memory, report
from benchmarks.equivalence import equivalence, power, sharpe_error
from benchmarks.tables import TABLES
from benchmarks.targets import target_table

HERE = {"cpu": "this one", "cores": 2, "system": "Linux", "python": "3.11.7", "torch": "2.13.0"}


def record(
    result: dict[str, Any], *, quick: bool = False, cpu: str = "this one", date: str = "2026-11-21"
) -> Any:
    return {
        "benchmark": "scaling",
        "quick": quick,
        "arguments": [],
        "date": date,
        "load_before": 0.5,
        "machine": HERE | {"cpu": cpu},
        "result": result,
    }


def scaled(ratio: float) -> dict[str, Any]:
    rates, over = {"1": 10.0, "2": 10.0 * ratio}, {"1": 1.0, "2": ratio}
    return {"trials_per_minute": rates, "times_the_first": over, "target": 1.9, "cores": 2}


def test_every_benchmark_has_a_script_and_a_table_and_a_place_on_the_page() -> None:
    template = report.TEMPLATE.read_text()
    for name in (*report.NAMES, *report.LONGER):
        assert (report.FOLDER / f"{name}.py").is_file()
        assert name in TABLES
        assert f"{{{{{name}}}}}" in template


SCRIPTS = [path for path in report.FOLDER.glob("*.py") if "argparse.ArgumentParser(" in path.read_text()]


# Each script is run as __main__ with the search path and modules that a process of its own would have.
SHOW_HELP = """
import runpy, sys
path = list(sys.path)
for script in sys.argv[1:]:
    sys.path[:] = [script.rpartition("/")[0], *path[1:]]
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]
    sys.argv = [script, "--help"]
    print("SCRIPT", script)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as left:
        assert not left.code, script
"""


@pytest.mark.slow
def test_every_script_runs_from_anywhere_and_has_a_short_form(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOW_HELP, *map(str, SCRIPTS)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert ran.returncode == 0, ran.stderr
    shown = [part.partition("\n") for part in ran.stdout.split("SCRIPT ")[1:]]
    assert [script for script, _, help_text in shown if "--quick" in help_text] == [*map(str, SCRIPTS)]


def test_every_stored_result_can_be_shown() -> None:
    page = report.write()
    assert "{{" not in page
    for path in report.RESULTS.glob("*.json"):
        stored = json.loads(path.read_text())
        assert report.stamp(stored)
        assert TABLES[stored["benchmark"]](stored["result"])


@pytest.mark.parametrize(("ratio", "verdict"), [(1.97, "met (scaling)"), (1.2, "**missed** (scaling)")])
def test_a_target_is_met_or_missed(ratio: float, verdict: str) -> None:
    shown = target_table({"scaling": record(scaled(ratio))})
    (line,) = [line for line in shown.splitlines() if "workers" in line]
    assert line == f"| 1 -> 2 workers on 2 cores | {ratio:g} x | >= 1.9 x |  | {verdict} |"
    assert "| `training.py` | not measured yet |" in shown


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.025, "met (small_study)"), (0.06, "**missed** (small_study)")]
)
def test_the_probe_has_a_share_of_small_trials_at_most(share: float, verdict: str) -> None:
    probe = {"seconds": 0.03, "inputs": 3, "trials": 18, "share": share, "share_each": 0.15, "target": 0.05}
    result = {"this": {"trial": 0.2, "launch": 10.0, "study": 14.0}, "probe": probe, "target": 0.75}
    (line,) = [
        line
        for line in target_table({"small_study": record(result)}).splitlines()
        if line.startswith("| linear probes")
    ]
    expected = f"| linear probes of 3 inputs beside 18 small trials | {share:.1%} of their CPU time | < 5% |"
    assert line == f"{expected}  | {verdict} |"
    shown = TABLES["small_study"](result)
    assert f"take {share:.1%} of the CPU time of 18 such trials" in shown
    assert "One linear probe takes 30 ms" in shown


@pytest.mark.parametrize(
    ("cpu", "date", "stands"),
    [
        ("this one", "2026-11-22", "full"),
        ("another one", "2026-11-22", "quick"),
        ("another one", "2026-11-20", "full"),
    ],
)
def test_a_full_run_stands_against_a_short_one_of_the_same_machine(
    cpu: str, date: str, stands: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.kept("scaling") is None
    quick = record(scaled(1.0), quick=True, cpu=cpu, date=date)
    (tmp_path / "scaling.quick.json").write_text(json.dumps(quick))
    assert report.kept("scaling") == quick
    (tmp_path / "scaling.json").write_text(json.dumps(record(scaled(1.9))))
    found = report.kept("scaling")
    assert found is not None
    assert found["quick"] is (stands == "quick")


def test_equal_scores_within_the_margin_are_equivalent_and_distant_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=10)
    noise = rng.normal(scale=0.1, size=10)
    assert equivalence(theirs + noise, theirs, margin=0.5).equivalent
    assert not equivalence(theirs + noise + 0.6, theirs, margin=0.5).equivalent
    assert not equivalence(theirs + 20 * noise, theirs, margin=0.5).equivalent
    found = equivalence(theirs + noise, theirs, margin=0.5)
    assert -0.5 < found.low < found.mean_difference < found.high < 0.5


def test_the_interval_lies_within_the_margin_exactly_where_the_tests_say_so() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        ours, theirs = rng.normal(size=(2, 6))
        found = equivalence(ours, theirs, margin=1.5)
        assert found.equivalent == (found.low > -1.5 and found.high < 1.5)


def test_the_power_is_how_often_equal_ones_are_found_equivalent() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(size=(4000, 10))
    found = np.mean([equivalence(each, np.zeros(10), margin=1.0).equivalent for each in differences])
    assert power(1.0, 1.0, 10) == pytest.approx(found, abs=0.06)


def test_the_error_of_a_sharpe_ratio_is_that_of_many_samples() -> None:
    rng = np.random.default_rng(3)
    returns = rng.normal(loc=0.1, size=(4000, 120))
    ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1) * np.sqrt(252)
    assert sharpe_error(0.1 * np.sqrt(252), 120, 252) == pytest.approx(ratios.std(), rel=0.05)


def test_the_memory_of_a_market_is_told_from_that_of_the_rest() -> None:
    lines = [
        "7f00-7f10 r--p 00000000 fe:00 1  /x/databases/market/abc/close.npy",
        "Rss:                 100 kB", "Private_Clean:        40 kB", "Private_Dirty:         0 kB",
        "7f20-7f30 r-xp 00000000 fe:00 2  /usr/lib/libc.so",
        "Rss:                 900 kB", "Private_Clean:       900 kB", "Private_Dirty:         0 kB",
    ]  # fmt: skip
    total = memory.sums(memory.mapped(lines))
    assert total["Rss"] == pytest.approx(100 / 1024)
    assert memory.unique(total) == pytest.approx(40 / 1024)


def test_an_index_replay_is_far_below_the_target() -> None:
    found = memory.replays()
    assert found["index_mb"] < found["target_mb"] < found["stock_mb"]
    windows = 2 * memory.OBSERVATION * 4
    rest = 4 + 4 + 4 + 4  # action, reward, done, time-out
    assert found["stock_mb"] == pytest.approx(memory.TRANSITIONS * (windows + rest) / memory.MB, rel=0.01)
