"""Run benchmarks, keep what each said last, and write RESULTS.md from what is kept.

`report.py` runs all, `report.py training memory` these; `--quick` runs their short form; what comes after
`--` goes to the benchmark. Each one's last line is kept in `results/`, with machine, date and load. Without a
run, `--write` writes RESULTS.md anew: its prose is in `RESULTS.template.md`, its tables come from `results/`.
A full run stands until there is another one, or a short one of another machine.
"""

import argparse
import ast
import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks.tables import TABLES  # noqa: E402
from benchmarks.targets import target_table  # noqa: E402

RESULTS = FOLDER / "results"
PAGE, TEMPLATE = FOLDER / "RESULTS.md", FOLDER / "RESULTS.template.md"
NAMES = (
    "environments",
    "training",
    "evaluation",
    "trials",
    "scaling",
    "engine",
    "memory",
    "quickstart",
    "phase_one",
    "two_phase",
    "peers_training",
    "zoo",
    "records",
    "fuzz",
    "small_study",
    "verbs",
)
LONGER = (  # run by name only
    "learning",
    "discovery",
    "null_studies",
    "luck",
    "battery",
    "battery_sweep",
    "probe_noise",
    "real_markets",
)
MARKER = re.compile(r"\{\{(\w+)(?: (\w+))?\}\}")


def run(name: str, quick: bool, arguments: list[str]) -> bool:
    """Run a benchmark, show what it prints, keep its last line; return whether it ended well."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *["--quick"] * quick, *arguments]
    print(f"\n{name}: {' '.join(command[1:])}", flush=True)
    load = os.getloadavg()[1]
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            last = line
    if running.returncode:
        print(f"{name} ended with exit code {running.returncode}", file=sys.stderr)
        return False
    record = {
        "benchmark": name,
        "quick": quick,
        "arguments": ["PATH" if os.path.isabs(each) else each for each in arguments],
        "date": datetime.now(UTC).date().isoformat(),
        "load_before": round(load, 1),
        "machine": machine(),
        "result": json.loads(last),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{'.quick' if quick else ''}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return True


def machine() -> dict[str, Any]:
    """Describe this machine."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def cpu_name() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def kept(name: str) -> dict[str, Any] | None:
    """Return the record of a benchmark that stands, None where it has not been run."""
    found = [read(RESULTS / f"{name}{ending}") for ending in (".json", ".quick.json")]
    full, quick = found
    if full is None or quick is None:
        return full or quick
    elsewhere = full["machine"]["cpu"] != quick["machine"]["cpu"]
    return quick if elsewhere and quick["date"] >= full["date"] else full


def read(path: Path) -> dict[str, Any] | None:
    """Return a record, None where there is none."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write() -> str:
    """Return the page: the template with each marker replaced."""
    records = {name: record for name in (*NAMES, *LONGER) if (record := kept(name)) is not None}

    def fill(found: re.Match[str]) -> str:
        name, of = found.groups()
        if name == "targets":
            return target_table(records)
        if name == "about":
            return about(of)
        record = records.get(name)
        if record is None:
            return f"Not measured yet: `python benchmarks/report.py {name}`."
        return f"{stamp(record)}\n\n{TABLES[name](record['result'])}"

    return MARKER.sub(fill, TEMPLATE.read_text(encoding="utf-8"))


def about(name: str) -> str:
    """Return the docstring of a benchmark."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


def stamp(record: dict[str, Any]) -> str:
    """Return when, where and how a result came about."""
    where = record["machine"]
    cores = f"{where['cores']} cores ({where['cpu']})"
    parts = [record["date"], cores, f"Python {where['python']}", f"torch {where['torch']}"]
    if record["load_before"] is not None:
        parts.append(f"load {record['load_before']} before it began")
    if record.get("note"):
        parts.append(record["note"])
    command = " ".join(["--quick"] * record["quick"] + record["arguments"])
    raw = f"results/{record['benchmark']}{'.quick' if record['quick'] else ''}.json"
    named = f"`{record['benchmark']}.py{' ' if command else ''}{command}`"
    return f"{named}, {', '.join(parts)}; raw numbers: [{raw}]({raw})."


def main() -> None:
    """Run what was asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join((*NAMES, *LONGER))}; none: all but the last")
    parser.add_argument("--quick", action="store_true", help="the short form of each, under five minutes")
    parser.add_argument("--write", action="store_true", help="run nothing")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    asked = parser.parse_args(words[:split])
    unknown = [name for name in asked.names if name not in (*NAMES, *LONGER)]
    if unknown:
        parser.error(
            f"there is no benchmark {', '.join(unknown)}: choose from {', '.join((*NAMES, *LONGER))}"
        )
    failed = []
    if not asked.write:
        failed = [name for name in asked.names or NAMES if not run(name, asked.quick, words[split + 1 :])]
    PAGE.write_text(write(), encoding="utf-8")
    print(f"wrote {PAGE}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
