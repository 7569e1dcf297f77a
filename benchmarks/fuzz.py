"""Fuzz the command line: every refusal is one clear line and exit code 1 or 2, and no input runs code.

Thousands of commands from one seed over every verb, key, flag, file, bundle, broken database and YAML file,
in this process (a launch that nothing refuses stops before its first trial) and fifty of them as processes.
`python -m benchmarks.fuzz`; `--quick` is the tenth that CI runs, `--seed N` draws others.
"""

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.fuzz_commands import CANARY, Case, commands

FULL, QUICK, PROCESSES = 2400, 240, 50
LIMIT_S = 60  # of one command; a machine may be loaded
PROCESS_LIMIT_S = 300  # of one that loads the libraries too
RAW = re.compile(
    r"Traceback|LexerNoViable|ListConfig|DictConfig|Ambiguous value|mismatched input|no viable alternative|"
    r"extraneous input|token recognition|OmegaConf|omegaconf|hydra\._|sqlalche\.me|Background on this error|"
    r"pyarrow\.lib|NoneType|has no attribute|not subscriptable|unhashable|a defect of walkforge|"
    r"object is not|codec can't|<class '|ArrowInvalid"
)
SECRET = "sesame-sesame-open"
DOCTORS = ("doctor", "data")  # their reports are their refusals


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | None  # None: it did not end in time
    out: str
    err: str
    seconds: float


class AcceptedError(Exception):
    """A launch that nothing refused."""


def run_here(words: Sequence[str]) -> Ended:
    """Run a command in this process."""
    from optimize.cli import main

    out, err = io.StringIO(), io.StringIO()
    began = time.monotonic()
    code: int | None = None
    signal.signal(signal.SIGALRM, _overdue)
    signal.alarm(LIMIT_S)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(list(words))
    except TimeoutError:
        code = None
    finally:
        signal.alarm(0)
    return Ended(code, out.getvalue(), err.getvalue(), time.monotonic() - began)


def run_process(words: Sequence[str]) -> Ended:
    """Run a command as a process of its own."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "optimize", *words],
            capture_output=True,
            text=True,
            timeout=PROCESS_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", "", PROCESS_LIMIT_S)
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def _overdue(*_: Any) -> None:
    raise KeyboardInterrupt


def why_wrong(case: Case, ended: Ended, folder: Path) -> str | None:
    """Return what is wrong with the end of a command, None where nothing is."""
    said = ended.out + ended.err
    lines = ended.err.strip().splitlines()
    if ended.code is None or "walkforge: interrupted" in ended.err:
        return "did not end in time"
    if (folder / CANARY).exists():
        (folder / CANARY).unlink()
        return "ran code"
    if ended.code not in (0, 1, 2):
        return f"exit code {ended.code}"
    if case.refused and ended.code == 0:
        return "was accepted"
    if SECRET in said:
        return "shows a secret"
    if found := RAW.search(said):
        return f"shows {found[0]!r}"
    own = [line for line in lines if line.startswith("walkforge: ")]
    if ended.code and not own and case.words[0] not in DOCTORS:
        return "ends without a line"
    if ended.code and len(own) > 1:
        return "ends with more than one line"
    if own and len(lines[-1]) > 2000 and "x" * 1000 not in lines[-1]:
        return "ends with a very long line"
    return None


@contextmanager
def nothing_starts() -> Iterator[None]:
    """Let no launch begin its work, no page be served and no worker join."""
    import optimize.cli.dashboard
    import optimize.cli.study
    import optimize.cli.worker
    import optimize.study.launch.run

    runner: Any = optimize.study.launch.run

    def check_bars(spec: Any, *_: Any, **__: Any) -> str:
        runner.enforce_report(runner.inspect_bars(spec.data, spec.session), lambda _: None)
        return str(spec.name)

    def accepted(*_: Any, **__: Any) -> None:
        return None

    with (
        mock.patch.object(runner, "_run_phases", check_bars),
        mock.patch.object(optimize.cli.dashboard, "serve", accepted),
        mock.patch.dict(os.environ, {"SECRET_TOKEN": SECRET}),
    ):
        yield


def fuzz(folder: Path, seed: int, count: int, processes: int) -> dict[str, Any]:
    """Run `count` commands here and some of them as processes; return counts and what went wrong."""
    before = Path.cwd()
    os.chdir(folder)
    wrong: list[dict[str, str]] = []
    kinds: dict[str, Counter[str]] = {}
    slowest = 0.0

    def judge(kind: str, case: Case, ended: Ended) -> None:
        kinds.setdefault(kind, Counter())[str(ended.code)] += 1
        _judge(kind, case, ended, folder, wrong)

    try:
        cases = commands(folder, seed, count)
        with nothing_starts():
            for case in cases:
                ended = run_here(case.words)
                slowest = max(slowest, ended.seconds)
                judge(case.kind, case, ended)
            apart = [case for case in cases if case.refused and "\n" not in " ".join(case.words)]
            for case in apart[:processes]:
                judge("as a process", case, run_process(case.words))
    finally:
        os.chdir(before)
    return {
        "seed": seed,
        "commands": sum(codes.total() for codes in kinds.values()),
        "kinds": dict(sorted(kinds.items())),
        "slowest_s": round(slowest, 1),
        "wrong": wrong,
    }


def _judge(kind: str, case: Case, ended: Ended, folder: Path, wrong: list[dict[str, str]]) -> None:
    why = why_wrong(case, ended, folder)
    if why is not None:
        command = " ".join(case.words)[:200]
        wrong.append({"command": command, "kind": kind, "why": why, "said": ended.err.strip()[-300:]})
        print(f"{why}: {command}\n    {ended.err.strip()[-300:]}", file=sys.stderr, flush=True)


def main() -> int:
    """Fuzz and print the counts as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tenth that CI runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=None)
    asked = parser.parse_args()
    count = asked.count or (QUICK if asked.quick else FULL)
    with tempfile.TemporaryDirectory() as place:
        found = fuzz(Path(place), asked.seed, count, 5 if asked.quick else PROCESSES)
    print(json.dumps(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
