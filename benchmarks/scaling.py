"""Trials per minute of one study with 1, 2 ... workers, round by round; ends with one JSON line.

Counted from the start of the first trial to the end of the last, so that the start of the processes, which
happens once, is left out; it is printed beside. The ratio is the median over the rounds.
"""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

TARGET = 1.9  # times the trials per minute, with 2 workers on 2 cores
SPAN = "SELECT COUNT(*), MIN(started_at), MAX(finished_at) FROM wf_runs WHERE state IN ('COMPLETE', 'PRUNED')"
OVERRIDES = (
    "name=scaling", "preflight=false", "data=embedded", "cost=fx", "window.count=2", "pruner=none",
    "sampler=random", "~space.agent", "+space.agent.learning_rate={low:1e-4,high:1e-3,log:true}",
)  # fmt: skip


def main() -> None:
    """Run the study in each size, a few times, and print the rates and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of short trials")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="the first is the measure")
    parser.add_argument("--trials", type=int, help="of each study (default: 12; quick: 4)")
    parser.add_argument("--device", default="cpu", help="agent.device; cuda puts all workers on GPU 0")
    options = parser.parse_args()
    rounds, steps = (1, 2048) if options.quick else (3, 8192)
    trials = options.trials or (4 if options.quick else 12)
    rates: dict[int, list[float]] = {count: [] for count in options.workers}
    for number in range(rounds):
        for count, measured in rates.items():
            rate, seconds = study(count, trials, steps, options.device)
            measured.append(rate)
            words = f"{count} workers: {rate:.1f} trials a minute, {seconds:.1f} s in all"
            print(f"round {number + 1} of {rounds}, {words}", flush=True)
    result = {
        "trials_per_minute": {str(n): round(statistics.median(each), 1) for n, each in rates.items()},
        "times_the_first": {str(n): round(ratio(each, rates), 2) for n, each in rates.items()},
        "trials": trials,
        "device": options.device,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[2], 1),  # of the last quarter of an hour, this benchmark's own included
        "machine": platform.machine(),
        "python": platform.python_version(),
        "target": TARGET,
        "reached": ratio(rates[2], rates) >= TARGET if 2 in rates else None,
    }
    print(json.dumps(result))


def ratio(rates: list[float], all_rates: dict[int, list[float]]) -> float:
    """Return the median over the rounds of a rate over the first size's rate in the same round."""
    first = next(iter(all_rates.values()))
    return statistics.median(ours / theirs for ours, theirs in zip(rates, first, strict=True))


def study(workers: int, trials: int, steps: int, device: str, *more: str) -> tuple[float, float]:
    """Run a study, with more overrides; return trials per minute and the seconds of the whole process."""
    sizes = [f"worker.count={workers}", f"n_trials={trials}", f"agent.total_timesteps={steps}"]
    where = [f"agent.device={device}"]
    if device != "cpu":
        where += ["worker.devices=[0]", f"worker.per_device={workers}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "optimize", "study", *OVERRIDES, *sizes, *where, *more]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        with closing(sqlite3.connect(Path(folder) / "databases" / "walkforge.db")) as conn:
            done, first, last = conn.execute(SPAN).fetchone()
    span = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    return 60 * done / span.total_seconds(), seconds


if __name__ == "__main__":
    main()
