"""Launches that are killed at chosen stages of a trial: real processes, forked here, and no clock."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest

from optimize.study import trial
from optimize.study.claims import batch, caps, perform
from optimize.study.handle import open_study
from optimize.study.spec import StudySpec
from optimize.study.workers.process import Seat, work
from optimize.study.workers.supervisor import Supervisor

FORK = multiprocessing.get_context("fork")
Kill = Callable[[], None]


def kill_all() -> None:
    """Kill the supervisor of this worker, then the worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    os.kill(parent.pid or 0, signal.SIGKILL)
    kill_worker()


def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(stage: str, mark: Path, kill: Kill, spec: StudySpec, seat: Seat) -> None:
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

    def run_window(resolved: Any, ground: Any, window: Any, seed: int) -> Any:
        reached(f"train {window.index}")
        return real_window(resolved, ground, window, seed)

    patch.setattr(trial, "run_window", run_window)
    after(batch, "ask", "ask")
    after(caps, "_start", "lease")
    after(caps, "_lost_trials", "reap")
    before(perform, "illustrate", "record")
    after(perform, "tell", "tell")
    work(spec, seat)


def launch(spec: StudySpec, target: Callable[[StudySpec, Seat], None] = work) -> int:
    """Run a study's workers to its cap in processes of their own; return the exit code of the supervisor."""
    process: ForkProcess = FORK.Process(target=supervise, args=(spec, target))
    process.start()
    process.join()
    return process.exitcode or 0


def launch_killed_at(spec: StudySpec, stage: str, mark: Path, kill: Kill = kill_all) -> int:
    return launch(spec, partial(killed_at, stage, mark, kill))


def supervise(spec: StudySpec, target: Callable[[StudySpec, Seat], None]) -> None:
    """Be the supervisor of a study in a session of its own."""
    os.setsid()
    supervisor = Supervisor(open_study(spec), target)
    supervisor.context = FORK  # type: ignore[assignment]  # nothing is imported anew
    supervisor.run(lambda: None)
