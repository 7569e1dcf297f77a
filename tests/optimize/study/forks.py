"""Launches and workers that are forks of this process: real processes that import nothing anew.

Patches of a test hold in them too.
"""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from optimize.cli import main
from optimize.evaluate.windows import Window
from optimize.study.context import StudyContext, open_study
from optimize.study.spec import StudySpec
from optimize.study.workers.process import PRELOAD, WorkerSlot, work
from optimize.study.workers.supervisor import Supervisor
from optimize.walkforward import run as run_module
from optimize.walkforward.markets import WindowedMarket
from tests.optimize.study.processes import SAID, arguments_of, until

FORK = multiprocessing.get_context("fork")
OUT, ERR = 1, 2
VERBS = ("optimize.cli.dispatch", "optimize.cli.study", "optimize.cli.worker")  # imported by `main`
SUPERVISED = ("optimize.study.launch.supervise", "optimize.study.finalists.run")  # they start workers
Work = Callable[[StudySpec, WorkerSlot], None]


def preload() -> None:
    """Import here, once, the modules that each fork would import."""
    for module in (*PRELOAD, *VERBS):
        importlib.import_module(module)


def forking(context: StudyContext, target: Work = work) -> Supervisor:
    """Return a supervisor whose workers are forks of this process."""
    preload()
    supervisor = Supervisor(context, target)
    supervisor.starter = FORK  # type: ignore[assignment]
    return supervisor


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the launches of this process fork their workers."""
    for module in SUPERVISED:
        monkeypatch.setattr(f"{module}.Supervisor", forking)


def supervise(spec: StudySpec, target: Work, log: Path | None = None) -> None:
    """Be the supervisor of a study in a session of its own; its messages go to the log."""
    os.setsid()
    if log is not None:
        _write_to(log)
    forking(open_study(spec), target).run(lambda: None)


def start(spec: StudySpec, target: Work = work, log: Path | None = None) -> ForkProcess:
    """Start the supervisor of a study in a process of its own."""
    preload()
    process: ForkProcess = FORK.Process(target=supervise, args=(spec, target, log))
    process.start()
    return process


def launch(spec: StudySpec, target: Work = work) -> int:
    """Run a study's workers to its cap in processes of their own; return the exit code of the supervisor."""
    process = start(spec, target)
    process.join()
    return process.exitcode or 0


def start_verb(folder: Path, *command: str) -> ForkProcess:
    """Start `walkforge VERB ...` in a fork and a session of its own; its output goes to a file there."""
    preload()
    process: ForkProcess = FORK.Process(target=_run_command, args=(folder, command))
    process.start()
    return process


def run_verb(folder: Path, *command: str) -> int | None:
    """Run `walkforge VERB ...` to its end in a fork and return its exit code."""
    process = start_verb(folder, *command)
    process.join()
    return process.exitcode


@contextmanager
def forked_study(folder: Path, spec: StudySpec, *overrides: str) -> Iterator[ForkProcess]:
    """Run `walkforge study` in a fork; nothing of it outlives the block."""
    process = start_verb(folder, "study", *arguments_of(spec, *overrides))
    try:
        yield process
    finally:
        for member in [psutil.Process(process.pid)] if process.is_alive() else []:
            for child in member.children(recursive=True):
                child.kill()
            member.kill()
        process.join()


def finish_forked(folder: Path, spec: StudySpec, *overrides: str) -> int | None:
    """Run `walkforge study` to its end in a fork and return its exit code."""
    with forked_study(folder, spec, *overrides) as process:
        process.join()
        return process.exitcode


def _run_command(folder: Path, command: tuple[str, ...]) -> None:
    os.setsid()
    os.chdir(folder)
    _write_to(folder / SAID)
    for module in SUPERVISED:  # a forkserver that this process started is no child of the fork
        pytest.MonkeyPatch().setattr(f"{module}.Supervisor", forking)
    sys.exit(main(list(command)))


def _write_to(path: Path) -> None:
    """Let this process write its output to a file, as a shell would."""
    with path.open("ab") as log:
        os.dup2(log.fileno(), OUT)
        os.dup2(log.fileno(), ERR)
    sys.stdout = os.fdopen(OUT, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(ERR, "w", buffering=1, closefd=False)


def hold_windows(monkeypatch: pytest.MonkeyPatch, gate: Path, first: int = 0, *, once: bool = False) -> None:
    """Let each window from the first one on wait until the gate is open: until the file exists.

    With `once` the window that waited removes the file, so that the next one waits for a new file.
    """
    real = run_module.run_window

    def run_window(spec: StudySpec, market: WindowedMarket, window: Window, *rest: Any) -> Any:
        if window.index >= first:
            until(gate.exists, "the gate to open")
            if once:
                gate.unlink()
        return real(spec, market, window, *rest)

    monkeypatch.setattr(run_module, "run_window", run_window)
