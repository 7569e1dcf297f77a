"""CPU time of a small trial, side by side with another version of Walkforge; ends with one JSON line.

A study on the embedded bars, stored in SQLite: PPO with 2,048 steps and two windows, one worker, no
preflight, one searched key that changes no size. Two sizes of it take turns with every version, each a whole
process in a fresh folder; user and system time of the process and its children are counted. A trial costs
the difference of the two sizes over the trials between them, and a launch the rest. The minimum of the
rounds counts, since other work on the machine only adds. `--against` is the Python of an environment that
has the other version.

The linear probe of these windows is timed in this process, where kernels and fits of the windows are ready,
as they are beside a trial. A study measures it once for each choice of inputs, of which the default space has
a few; `share` is theirs of the trials of the larger study, `share_each` that where each trial has its own.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.processes import cpu_seconds
from optimize import compose
from optimize.agents.threads import limit_threads
from optimize.walkforward.markets import build_windowed_market
from optimize.walkforward.probe import evaluate_probe

FEW, MANY = 6, 18  # trials; both have the notes of the five best
TARGET = 0.75  # of the CPU time of a trial of version 0.1
PROBE_TARGET = 0.05  # of the CPU time of the trials
PROBES = 20  # probes that are timed, of which the fastest counts
SETTINGS = (
    "experiment=quickstart",
    "phase=single",
    "preflight=false",
    "worker.count=1",
    "agent.total_timesteps=2048",
    "window.count=2",
    "++space.feature=null",
    "space.agent=null",
    "++space.train=null",
    "agent.learning_rate=0.0003",  # of version 0.1, within the range below
    "+space.agent.learning_rate={low: 0.0001, high: 0.001}",  # the only key, so that all trials are one size
)


def study_seconds(python: str, n_trials: int, settings: list[str]) -> float:
    """Return the CPU seconds of one study and its workers, begun in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "optimize", "study", *settings, f"n_trials={n_trials}"]
        return cpu_seconds(command, Path(folder))


def measure(pythons: dict[str, str], rounds: int, settings: list[str]) -> dict[str, dict[str, float]]:
    """Return the least CPU seconds of a launch and of a trial of every version, which take turns."""
    taken: dict[str, dict[int, list[float]]] = {name: {FEW: [], MANY: []} for name in pythons}
    for name, python in pythons.items():
        study_seconds(python, FEW, settings)  # compiles kernels and writes bytecode
        print(f"{name}: ready", flush=True)
    for number in range(rounds):
        for n_trials in (FEW, MANY):
            for name, python in pythons.items():
                taken[name][n_trials].append(study_seconds(python, n_trials, settings))
                print(
                    f"round {number + 1}, {name}, {n_trials} trials: {taken[name][n_trials][-1]:.2f} s",
                    flush=True,
                )
    found = {}
    for name, of_size in taken.items():
        few, many = min(of_size[FEW]), min(of_size[MANY])
        trial = (many - few) / (MANY - FEW)
        found[name] = {
            "trial": round(trial, 3),
            "launch": round(few - FEW * trial, 2),
            "study": round(many, 2),
        }
    return found


def probe_cost(settings: list[str], trial: float) -> dict[str, float]:
    """Return the CPU seconds of one linear probe, and the share of probes in the trials of a study."""
    limit_threads(1)
    space = compose("study", ["name=probe"]).space["feature"]
    inputs = math.prod(len(choices) for choices in space.values())
    spec = compose("study", ["name=probe", *settings])
    windowed = build_windowed_market(spec, None)
    taken = []
    for _ in range(PROBES):
        began = time.process_time()
        evaluate_probe(spec, windowed)
        taken.append(time.process_time() - began)
    seconds = min(taken)
    return {
        "seconds": round(seconds, 4),
        "inputs": inputs,
        "trials": MANY,
        "share": round(seconds * inputs / (MANY * trial), 4),
        "share_each": round(seconds / trial, 3),
        "target": PROBE_TARGET,
    }


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--against", help="the Python of the other version's environment")
    parser.add_argument("settings", nargs="*", help="more settings of the study, such as agent=dqn")
    asked = parser.parse_args()
    pythons = {"this": sys.executable} | ({"other": asked.against} if asked.against else {})
    found = measure(pythons, 1 if asked.quick else 3, [*SETTINGS, *asked.settings])
    if min(each["trial"] for each in found.values()) <= 0:
        sys.exit("more trials took no more CPU time: measure again, on a machine with less other work")
    if "other" in found:
        found["ratio"] = {key: round(found["this"][key] / found["other"][key], 3) for key in found["this"]}
    probe = probe_cost([*SETTINGS, *asked.settings], found["this"]["trial"])
    print(json.dumps({"benchmark": "small_study", **found, "probe": probe, "target": TARGET}))


if __name__ == "__main__":
    main()
