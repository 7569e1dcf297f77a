"""Launches that are killed or held at chosen stages of a trial: real processes, forked here, and no clock."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest

from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials import ask as batch
from optimize.study.trials import claim as caps
from optimize.study.trials import execute as perform
from optimize.study.workers.process import WorkerSlot, work
from optimize.walkforward import run as trial
from tests.optimize.study.forks import launch, start
from tests.optimize.study.processes import until
from tests.optimize.study.studies import opened, small_spec

Kill = Callable[[], None]


def kill_all() -> None:
    """Kill the supervisor of this worker, then the worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    os.kill(parent.pid or 0, signal.SIGKILL)
    kill_worker()


def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(stage: str, mark: Path, kill: Kill, spec: StudySpec, slot: WorkerSlot) -> None:
    """Be a worker that is killed the first time that it comes to a stage."""
    patch = pytest.MonkeyPatch()  # for good: the process is this worker's own

    def reached(name: str, result: Any = None) -> None:
        if name != stage or (name == "reap" and not any(result)):
            return
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        kill()

    def after(module: Any, function: str, name: str) -> None:
        real = getattr(module, function)

        def then_killed(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            reached(name, result)
            return result

        patch.setattr(module, function, then_killed)

    def before(module: Any, function: str, name: str) -> None:
        real = getattr(module, function)

        def killed_first(*arguments: Any, **options: Any) -> Any:
            reached(name)
            return real(*arguments, **options)

        patch.setattr(module, function, killed_first)

    real_run = trial.run_trial

    def run_trial(*arguments: Any, keep: Callable[..., None], **options: Any) -> Any:
        def kept(window: Any, *rest: Any) -> None:
            keep(window, *rest)
            reached(f"window {window.index}")

        return real_run(*arguments, keep=kept, **options)

    patch.setattr(perform, "run_trial", run_trial)
    real_window = trial.run_window

    def run_window(resolved: Any, windowed: Any, window: Any, *rest: Any) -> Any:
        reached(f"train {window.index}")
        return real_window(resolved, windowed, window, *rest)

    patch.setattr(trial, "run_window", run_window)
    after(batch, "ask_next", "ask")
    after(caps, "_start", "lease")
    after(caps, "_lost_trials", "reap")
    before(perform, "_store_outcome", "record")
    after(perform, "tell", "tell")
    work(spec, slot)


def launch_killed_at(spec: StudySpec, stage: str, mark: Path, kill: Kill = kill_all) -> int:
    return launch(spec, partial(killed_at, stage, mark, kill))


@dataclass(frozen=True)
class Training:
    """A study whose one worker stands at the start of its first window."""

    spec: StudySpec
    supervisor: ForkProcess
    gate: Path
    log: Path

    def go_on(self) -> None:
        """Let the worker train."""
        self.gate.write_text("on")

    def signal(self, number: signal.Signals, *, to_group: bool = False) -> None:
        """Send a signal to the supervisor, or to its process group, as a terminal does."""
        (os.killpg if to_group else os.kill)(self.supervisor.pid or 0, number)


@contextmanager
def training(folder: Path) -> Iterator[Training]:
    """Yield a study whose one worker is in its first window until it is let go on."""
    spec = opened(small_spec(folder, n_trials=1, worker=WorkerSpec(count=1))).spec
    gate, mark, log = folder / "gate", folder / "mark", folder / "said.txt"
    os.mkfifo(gate)
    supervisor = start(spec, partial(killed_at, "train 0", mark, partial(wait_at, gate)), log)
    try:
        until(mark.exists, "the first window to begin")
        yield Training(spec, supervisor, gate, log)
    finally:
        supervisor.kill()
        supervisor.join()


def wait_at(gate: Path) -> None:
    gate.read_text()
