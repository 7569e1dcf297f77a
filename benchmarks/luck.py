"""Whether the statistics of luck hold at full size; ends with one JSON line.

Size: families of 50 trials without skill over 250 sessions, through the code of the board's verdict; each of
its two answers must fire in 2.5 to 7.5 % of 500 families of every kind. Power: a trial of the size that the
power line names must be found in 72 to 88 %. Selection: on markets without an edge, with drawn returns in
place of training and no costs, the selection walk-forward must be centred at zero, and on markets with an
edge it must find it. Nested and training: the same of the nested walk-forward, with drawn returns, and with
agents that are trained. Every result is kept in `results/luck_runs.jsonl`, so that a run that was stopped
goes on; `--count` sums up those that there are, and `--fresh` begins anew, as it must after a change of the
statistics.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks import luck_simulation, luck_studies  # noqa: E402

RAW = FOLDER / "results" / "luck_runs.jsonl"
SIZE_LIMITS, POWER_LIMITS = (0.025, 0.075), (0.72, 0.88)
CENTRED = 2.5  # standard errors from zero, at most
MEMORY = Path("/dev/shm")  # a folder in memory, where the system has one
Values = dict[str, float]


@dataclass(frozen=True)
class Part:
    """One part of the benchmark: its cases, and how often each is repeated."""

    measure: Callable[[Path, str, int], Values]
    repeats: dict[str, int]
    quick: dict[str, int]


def parts() -> dict[str, Part]:
    """Return the parts by name."""
    kinds = luck_simulation.KINDS
    in_memory: Callable[..., Any] = lambda function, _folder, case, seed: function(case, seed)  # noqa: E731
    return {
        "size": Part(
            partial(in_memory, luck_simulation.fires), dict.fromkeys(kinds, 500), dict.fromkeys(kinds, 2)
        ),
        "power": Part(
            partial(in_memory, luck_simulation.detects), dict.fromkeys(kinds, 200), dict.fromkeys(kinds, 2)
        ),
        "selection": Part(luck_studies.chosen, {"none": 200, "planted": 20}, {"none": 2, "planted": 2}),
        "nested": Part(luck_studies.nested, {"none": 100, "planted": 10}, {"none": 2, "planted": 1}),
        "training": Part(luck_studies.trained, {"none": 5, "planted": 3}, {"none": 1}),
    }


def recorded(raw: Path, part: str, case: str) -> dict[int, Values]:
    """Return the stored results of a case by seed."""
    if not raw.exists():
        return {}
    rows = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    return {row["seed"]: row["values"] for row in rows if (row["part"], row["case"]) == (part, case)}


def record(raw: Path, name: str, part: Part, case: str, repeats: int) -> list[Values]:
    """Measure the seeds of a case that are missing; return the results of all."""
    known = recorded(raw, name, case)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        for seed in range(repeats):
            if seed not in known:
                known[seed] = part.measure(Path(scratch), case, seed)
                row = {"part": name, "case": case, "seed": seed, "values": known[seed]}
                with raw.open("a", encoding="utf-8") as kept:
                    kept.write(json.dumps(row) + "\n")
    return [known[seed] for seed in range(repeats)]


def summed_up(found: Sequence[Values]) -> dict[str, Any]:
    """Return the mean of every value with its standard error, and the number of results."""
    means: dict[str, Any] = {"repeats": len(found)}
    for key in found[0]:
        values = np.array([each[key] for each in found], np.float64)
        values = values[np.isfinite(values)]
        error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
        means[key] = {"mean": round(float(np.mean(values)), 4), "error": round(error, 4)}
    return means


def reached(name: str, case: str, means: dict[str, Any]) -> dict[str, bool]:
    """Return whether each value with a target is within it."""
    if name in ("size", "power"):
        low, high = SIZE_LIMITS if name == "size" else POWER_LIMITS
        return {key: bool(low <= means[key]["mean"] <= high) for key in ("flat", "buy_and_hold")}
    keys = ("board", "with_pruned") if name == "selection" else ("board",)
    distance = {key: means[key]["mean"] / means[key]["error"] if means[key]["error"] else 0.0 for key in keys}
    if case == luck_studies.NO_EDGE:
        return {key: bool(abs(each) <= CENTRED) for key, each in distance.items()}
    return {key: bool(each > CENTRED) for key, each in distance.items()}


def counted(raw: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the summary of the stored results of every case that has two or more."""
    result: dict[str, Any] = {}
    for name in names:
        for case in parts()[name].repeats:
            if len(known := recorded(raw, name, case)) > 1:
                means = summed_up([known[seed] for seed in sorted(known)])
                result.setdefault(name, {})[case] = means | {"reached": reached(name, case, means)}
    return result


def measured(raw: Path, names: Sequence[str], share: float, quick: bool) -> dict[str, Any]:
    """Measure a share of the missing repeats, of every case in turn; return the summary of each."""
    result: dict[str, Any] = {}
    for name in names:
        part, result[name] = parts()[name], {}
        for case, repeats in (part.quick if quick else part.repeats).items():
            means = summed_up(record(raw, name, part, case, max(1, round(share * repeats))))
            result[name][case] = means | {"reached": reached(name, case, means)}
            print(f"{name}, {case}: {result[name][case]}", flush=True)
    return result


def main() -> None:
    """Measure the missing repeats and sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one or two repeats of every case, none is kept")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results")
    parser.add_argument("--count", action="store_true", help="sum up the stored results, measure none")
    parser.add_argument("--share", type=float, default=1.0, help="of the repeats of every case")
    parser.add_argument("--only", nargs="*", default=list(parts()), choices=list(parts()), help="these parts")
    asked = parser.parse_args()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / RAW.name if asked.quick else RAW
        if asked.fresh:
            raw.unlink(missing_ok=True)
        if asked.count:
            result = counted(raw, asked.only)
        else:
            result = measured(raw, asked.only, asked.share, asked.quick)
    print(json.dumps(result | {"cpu_s": round(time.process_time() - started, 1)}))


if __name__ == "__main__":
    main()
