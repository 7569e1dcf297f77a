"""Whether a study finds an edge that exists, on markets with a planted one; ends with one JSON line.

Each contestant is trained on a market and measured on 60,000 fresh bars of the same process, beside an oracle
that knows the expected return of every bar. Every result is kept in `results/battery.jsonl`, so that a run
that was stopped goes on, and more markets, seeds or contestants add to those there.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks.battery_contestants import STUDIES, WORDS, BatteryJob, contest  # noqa: E402
from benchmarks.battery_markets import KINDS, PLANTED, Place, strengths_of  # noqa: E402
from benchmarks.battery_oracle import STRENGTHS  # noqa: E402
from benchmarks.battery_rows import Row, add_sizes, keep_row, mean_and_error, measured, read_rows  # noqa: E402
from benchmarks.battery_specs import settings_id, settings_of  # noqa: E402
from benchmarks.battery_table import battery_table, draw_battery  # noqa: E402

RAW = FOLDER / "results" / "battery.jsonl"
TRIALS, FINALISTS, FRESH_SEEDS = 60, 5, 4
QUICK_BARS, QUICK_TRIALS, QUICK_CONTESTANTS = 3000, 2, ["default run", "study", "probe"]


def jobs_of(asked: argparse.Namespace) -> list[BatteryJob]:
    """Return the jobs that were asked for, in an order in which every kind grows alike."""
    ids = {name: settings_id(settings_of(*WORDS[name]), asked.raw) for name in asked.contestants}
    kinds = dict.fromkeys(
        (kind, own)
        for strength in asked.strengths
        for kind in asked.only
        for own in strengths_of(kind, [strength])
    )
    jobs = []
    for number, seed in product(range(asked.markets), range(asked.seeds)):
        for (kind, strength), name in product(kinds, asked.contestants):
            sizes = (asked.trials, asked.finalists, asked.fresh_seeds) if name in STUDIES else ()
            place = Place(kind, strength, number)
            jobs.append(BatteryJob(name, place, seed, ids[name], asked.bars, asked.fresh, *sizes))
    return jobs


def found_by(
    jobs: Sequence[BatteryJob], rows: Mapping[tuple[Any, ...], Row]
) -> dict[Place, dict[str, list[Row]]]:
    """Return the rows of jobs by kind, strength and contestant."""
    found: dict[Place, dict[str, list[Row]]] = {}
    for job in jobs:
        for name in job.rows:
            if (row := rows.get(job.key(name))) is not None:
                place = Place(job.place.kind, job.place.strength, 0)
                found.setdefault(place, {}).setdefault(name, []).append(row)
    return found


def measure_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the mean truth of rows with its error, its share of the oracle, and the mean CPU time."""
    oracle = sum(row["oracle"][0] for row in rows)
    expected = sum(row["expected"] for row in rows)
    return {
        "runs": len(rows),
        "expected": mean_and_error(row["expected"] for row in rows),
        "realised": mean_and_error(row["realised"] for row in rows),
        "oracle": round(oracle / len(rows), 3),
        "share": round(expected / oracle, 3) if oracle else None,
        "share_error": error_of_share(rows, oracle / len(rows)),
        "cpu_s": mean_and_error(row["cpu_s"] for row in rows)[0],
    }


def error_of_share(rows: Sequence[Row], oracle: float) -> float | None:
    """Return the standard error of a share over runs, None for a single run or without an edge."""
    error = mean_and_error(row["expected"] for row in rows)[1]
    return round(error / oracle, 3) if error is not None and oracle else None


def summed_up(jobs: Sequence[BatteryJob], rows: Mapping[tuple[Any, ...], Row]) -> dict[str, Any]:
    """Return the measures of every contestant by kind and strength, and by strength over all kinds."""
    found = found_by(jobs, rows)
    contestants = list(dict.fromkeys(name for job in jobs for name in job.rows))
    by_strength: dict[str, dict[str, list[Row]]] = {}
    for place, own in found.items():
        if place.kind in PLANTED:
            for name, each in own.items():
                by_strength.setdefault(str(place.strength), {}).setdefault(name, []).extend(each)
    sizes = {(job.trials, job.finalists, job.seeds) for job in jobs if job.trials}
    return {
        "contestants": [name for name in contestants if any(name in own for own in found.values())],
        "places": [
            {
                "kind": place.kind,
                "strength": place.strength,
                "contestants": {name: measure_of(each) for name, each in own.items()},
            }
            for place, own in sorted(found.items(), key=lambda each: list(KINDS).index(each[0].kind))
        ],
        "by_strength": {
            strength: {name: measure_of(each) for name, each in own.items()}
            for strength, own in sorted(by_strength.items())
        },
        "studies": [list(each) for each in sorted(sizes)],
        "runs": sum(len(each) for own in found.values() for each in own.values()),
        "asked": sum(len(job.rows) for job in jobs),
        "fresh_bars": jobs[0].fresh,
        "cpu_hours": round(total_cpu(found) / 3600, 2),
    }


def total_cpu(found: Mapping[Place, Mapping[str, Sequence[Row]]]) -> float:
    """Return the CPU seconds of all rows; that of finalists includes their study's."""
    return sum(
        float(row["cpu_s"])
        for own in found.values()
        for name, each in own.items()
        for row in each
        if STUDIES.get(name) not in own
    )


def battle(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the jobs that are missing, keep the rows of each when it ends, and return the summary of all."""
    jobs = jobs_of(asked)
    rows = {tuple(row["key"]): row for row in read_rows(asked.raw) if "key" in row}
    missing = [job for job in jobs if any(job.key(name) not in rows for name in job.rows)]
    for found in measured([] if asked.count else missing, contest, asked.workers):
        for row in found:
            keep_row(asked.raw, row)
            rows[tuple(row["key"])] = row
            name, _, kind, strength, number = row["key"][:5]
            print(
                f"{kind} {strength} {number}, {name}: {row['expected']:+.2f}, {row['cpu_s']:.1f} s",
                flush=True,
            )
    return summed_up(jobs, rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short market and study, not kept")
    parser.add_argument(
        "--only", nargs="*", default=list(PLANTED), choices=list(KINDS), help="kinds of edges"
    )
    parser.add_argument("--strengths", nargs="*", type=int, default=list(STRENGTHS), help="of the oracle")
    parser.add_argument("--seeds", type=int, default=1, help="of each contestant on each market")
    parser.add_argument(
        "--contestants", nargs="*", default=list(WORDS), choices=list(WORDS), help="that are trained"
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="of a study")
    parser.add_argument("--finalists", type=int, default=FINALISTS, help="of a study")
    parser.add_argument("--fresh-seeds", type=int, default=FRESH_SEEDS, help="of a finalist; 0: no finalists")
    add_sizes(parser, RAW)
    return parser.parse_args()


def main() -> None:
    """Measure the contestants that are missing, and show all."""
    asked, started = arguments(), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        if asked.quick:
            asked.only, asked.strengths, asked.raw = ["last"], [4], Path(scratch) / RAW.name
            asked.bars, asked.fresh, asked.trials = QUICK_BARS, QUICK_BARS, QUICK_TRIALS
            asked.finalists, asked.fresh_seeds, asked.contestants = 1, 1, QUICK_CONTESTANTS
        result = battle(asked)
    if asked.raw == RAW:
        draw_battery(result)
    print(battery_table(result))
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
