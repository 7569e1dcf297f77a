"""CPU time of the reading verbs beside their libraries, and beside another version; ends with one JSON line.

A study on the embedded bars is run by each version in a folder of its own. Then `status`, `leaderboard` and
`query` take turns with `python -c "import sqlalchemy, pandas, rich"`, each a whole process; its user and
system time are counted, and the minimum of the rounds, since other work on the machine only adds. A ratio is
that over the imports. `--against` is the Python of an environment that has the other version.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.processes import cpu_seconds
from benchmarks.small_study import SETTINGS

IMPORTS = "import sqlalchemy, pandas, rich"
TRIALS = 6
TARGET = 1.2  # times the CPU time of the imports
VERBS = {
    "status": ("status", "name=quickstart"),
    "leaderboard": ("leaderboard", "name=quickstart"),
    "query": ("query", "sql=best_models", "name=quickstart"),
}


def measure(pythons: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Return the least CPU seconds of the imports and of every verb, by version; all take turns."""
    with tempfile.TemporaryDirectory() as parent:
        commands = {}
        for version, python in pythons.items():
            folder = Path(parent, version)
            folder.mkdir()
            cpu_seconds([python, "-m", "optimize", "study", *SETTINGS, f"n_trials={TRIALS}"], folder)
            print(f"{version}: the study is there", flush=True)
            for verb, words in VERBS.items():
                commands[version, verb] = ([python, "-m", "optimize", *words], folder)
            commands[version, "imports"] = ([python, "-c", IMPORTS], folder)
        taken: dict[tuple[str, str], list[float]] = {each: [] for each in commands}
        for number in range(rounds + 1):
            for each, (command, folder) in commands.items():
                seconds = cpu_seconds(command, folder)
                if number:  # the first round writes bytecode
                    taken[each].append(seconds)
    return {
        version: {verb: round(min(taken[version, verb]), 3) for verb in ("imports", *VERBS)}
        for version in pythons
    }


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--against", help="the Python of the other version's environment")
    asked = parser.parse_args()
    pythons = {"this": sys.executable} | ({"other": asked.against} if asked.against else {})
    seconds = measure(pythons, 5 if asked.quick else 15)
    ratios = {
        version: {verb: round(found[verb] / found["imports"], 2) for verb in VERBS}
        for version, found in seconds.items()
    }
    print(json.dumps({"benchmark": "verbs", "cpu_s": seconds, "over_imports": ratios, "target": TARGET}))


if __name__ == "__main__":
    main()
