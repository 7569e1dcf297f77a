"""Configurations compared on the battery's markets, to find defaults; ends with one JSON line.

A file names sets of settings (`--sets`, as in `battery_sets.yaml`). Each is walked forward once on every
market, without a search; the models of all windows are measured on fresh bars of the same process, and their
mean truth counts. `expected` is the truth without the luck of the fresh bars. Every walk-forward is kept in
`results/battery_sweep.jsonl`, so that a run that was stopped goes on, and more markets add to those there.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

import numpy as np  # noqa: E402
import yaml  # noqa: E402

from benchmarks.battery_markets import KINDS, PLANTED, Place, strengths_of  # noqa: E402
from benchmarks.battery_rows import SCRATCH, Row, add_sizes, keep_row, mean_and_error, measured, read_rows  # noqa: E402
from benchmarks.battery_specs import placed, settings_id, settings_of  # noqa: E402
from benchmarks.battery_table import sweep_table  # noqa: E402
from benchmarks.battery_truth import fresh_bars, truth_of_model, truth_of_oracle  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.walkforward.run import SINGLE_RUN, run_window, seed_of  # noqa: E402

RAW, SETS = FOLDER / "results" / "battery_sweep.jsonl", FOLDER / "battery_sets.yaml"
QUICK_KINDS, QUICK_BARS = ["last", "season_day"], 3000


@dataclass(frozen=True)
class WalkJob:
    """One walk-forward of one set of settings on one market."""

    name: str
    words: tuple[str, ...]
    place: Place
    seed: int
    settings_id: str
    bars: int
    fresh: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the identity of its row."""
        place = self.place
        return self.settings_id, place.kind, place.strength, place.number, self.seed, self.bars, self.fresh


def walk(job: WalkJob) -> Row:
    """Train the windows of one configuration and measure each model on fresh bars."""
    limit_threads(1)
    spec, windowed = placed(job.words, job.place, job.bars)
    fresh = fresh_bars(spec, job.place, SCRATCH, job.fresh)
    oracle = truth_of_oracle(spec, fresh, job.place)
    cpu, truths, tests = [], [], []
    for window in windowed.windows:
        before = time.process_time()
        model, result, _ = run_window(
            spec, windowed, window, seed_of([job.seed, SINGLE_RUN], window.index, 0)
        )
        cpu.append(time.process_time() - before)
        tests.append(result.metrics.sharpe)
        truths.append(truth_of_model(spec, fresh, model))
    return {
        "key": list(job.key),
        "name": job.name,
        "words": list(job.words),
        "settings_id": job.settings_id,
        "expected": [round(each.expected, 4) for each in truths],
        "realised": [round(each.realised, 4) for each in truths],
        "tests": [None if each is None else round(each, 4) for each in tests],
        "oracle": [round(oracle.expected, 4), round(oracle.realised, 4)],
        "cpu_s": round(sum(cpu), 3),
    }


def read_sets(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the settings of every named set."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        str(name): tuple(words if isinstance(words, list) else shlex.split(words or ""))
        for name, words in plain.items()
    }


def jobs_of(asked: argparse.Namespace, raw: Path) -> list[WalkJob]:
    """Return the walk-forwards that were asked for, in an order in which every set grows alike."""
    sets = {
        name: words for name, words in read_sets(asked.sets).items() if not asked.only or name in asked.only
    }
    ids = {name: settings_id(settings_of("walk-forward", words), raw) for name, words in sets.items()}
    return [
        WalkJob(name, words, Place(kind, strength, number), seed, ids[name], asked.bars, asked.fresh)
        for number in range(asked.markets)
        for seed in range(asked.seeds)
        for kind in asked.kinds
        for strength in strengths_of(kind, asked.strengths)
        for name, words in sets.items()
    ]


def summary(jobs: Sequence[WalkJob], rows: Mapping[tuple[Any, ...], Row]) -> dict[str, Any]:
    """Return the mean truth of each set with its error, its lead over the first set, and its CPU time."""
    found: dict[str, dict[tuple[Any, ...], Row]] = {}
    for job in jobs:
        if job.key in rows:
            found.setdefault(job.name, {})[job.key[1:]] = rows[job.key]
    first = next(iter(found.values()), {})
    sets = []
    for name, own in found.items():
        truth = {place: float(np.mean(row["expected"])) for place, row in own.items()}
        leads = [
            value - float(np.mean(first[place]["expected"]))
            for place, value in truth.items()
            if place in first
        ]
        kinds = sorted({place[0] for place in own}, key=list(KINDS).index)
        earned = [row["oracle"][0] for row in own.values()]
        sets.append(
            {
                "name": name,
                "words": " ".join(next(iter(own.values()))["words"]),
                "walks": len(own),
                "expected": mean_and_error(truth.values()),
                "realised": mean_and_error(float(np.mean(row["realised"])) for row in own.values()),
                "share": round(sum(truth.values()) / sum(earned), 3) if sum(earned) else None,
                "lead": mean_and_error(leads) if leads else None,
                "cpu_s": mean_and_error(row["cpu_s"] for row in own.values())[0],
                "by_kind": {
                    kind: mean_and_error(value for place, value in truth.items() if place[0] == kind)
                    for kind in kinds
                },
            }
        )
    return {"walks": sum(each["walks"] for each in sets), "asked": len(jobs), "sets": sets}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sets on two short markets, none is kept")
    parser.add_argument("--sets", type=Path, default=SETS, help="YAML file of names with their settings")
    parser.add_argument("--only", nargs="*", help="names of these sets alone")
    parser.add_argument("--kinds", nargs="*", default=list(PLANTED), choices=list(KINDS), help="of edges")
    parser.add_argument("--strengths", nargs="*", type=int, default=[3], help="Sharpe ratios of the oracle")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each set on each market")
    add_sizes(parser, RAW)
    return parser.parse_args()


def main() -> None:
    """Measure the walk-forwards that are missing and sum up."""
    asked, started = arguments(), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.quick:
            asked.kinds, asked.bars, asked.fresh = QUICK_KINDS, QUICK_BARS, QUICK_BARS
            asked.only, asked.raw = asked.only or list(read_sets(asked.sets))[:2], Path(scratch) / RAW.name
        result = swept(asked)
    print(sweep_table(result))
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


def swept(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the missing walk-forwards, keep each when it ends, and return the summary of all."""
    jobs = jobs_of(asked, asked.raw)
    rows = {tuple(row["key"]): row for row in read_rows(asked.raw) if "key" in row}
    missing = [] if asked.count else [job for job in jobs if job.key not in rows]
    for row in measured(missing, walk, asked.workers):
        keep_row(asked.raw, row)
        rows[tuple(row["key"])] = row
        print(
            f"{row['key'][1:5]} {row['name']}: {np.mean(row['expected']):+.2f}, {row['cpu_s']:.1f} s",
            flush=True,
        )
    return summary(jobs, rows)


if __name__ == "__main__":
    main()
