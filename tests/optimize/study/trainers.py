"""Trainers that misbehave in real worker processes, as the target of their supervisor."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from optimize.agents.sb3.build import build
from optimize.agents.sb3.train import train
from optimize.search.space import suggest
from optimize.study.spec import StudySpec
from optimize.study.workers.process import WorkerSlot, work
from optimize.walkforward.run import run_trial

ANY = -1  # every trial that has no habit of its own
FOREVER_S = 600.0
CHUNK = 64 * 2**20
CHUNKS = 64


def misbehave(habits: dict[int, str], spec: StudySpec, slot: WorkerSlot) -> None:
    """Be a worker whose trainer has a bad habit in some trials, by their number."""
    now = [ANY]
    patch = pytest.MonkeyPatch()  # for good: the process is this worker's own

    def noting_trial(resolved: StudySpec, windowed: Any, entropy: list[int], **rest: Any) -> Any:
        now[0] = entropy[-1]
        return run_trial(resolved, windowed, entropy, **rest)

    def bad_train(*arguments: Any, **options: Any) -> Any:
        habit = habits.get(now[0], habits.get(ANY))
        patch.setattr("optimize.agents.sb3.train.build", nan_build if habit == "nan" else build)
        if habit is not None:
            HABITS[habit](Path(spec.output_dir) / f"{habit}_{now[0]}")
        return train(*arguments, **options)

    def stopping_suggest(*arguments: Any) -> Any:
        if first_time(Path(spec.output_dir) / "stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return suggest(*arguments)

    patch.setattr("optimize.study.trials.execute.run_trial", noting_trial)
    patch.setattr("optimize.walkforward.run.train", bad_train)
    if "stop_in_lock" in habits.values():
        patch.setattr("optimize.study.trials.claim.suggest", stopping_suggest)
    work(spec, slot)


def report(spec: StudySpec, slot: WorkerSlot) -> None:
    """Write the environment of a worker process, as the kernel knows it, to a file."""
    environment = Path("/proc/self/environ").read_text().replace("\0", "\n")
    folder = Path(spec.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"environment_{slot.worker}").write_text(environment)


def first_time(marker: Path) -> bool:
    """Return whether this is the first process that calls this."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def sleep(marker: Path) -> None:
    asleep(marker.parent, os.getpid()).touch()
    time.sleep(FOREVER_S)


def asleep(folder: Path, pid: int) -> Path:
    """Return the file that exists once a process sleeps for ever."""
    return folder / f"asleep_{pid}"


def hog(marker: Path) -> None:
    held = []
    for number in range(CHUNKS):
        held.append(bytes([1 + number]) * CHUNK)
        time.sleep(0.02)
    time.sleep(FOREVER_S)


def fail(marker: Path) -> None:
    raise RuntimeError("this trainer raises")


def die(marker: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: Path) -> None:
    if first_time(marker):
        die(marker)


def leave_once(marker: Path) -> None:
    if first_time(marker):
        os.kill(os.getpid(), signal.SIGTERM)


def start_a_child(marker: Path) -> None:
    child = subprocess.Popen(["sleep", str(FOREVER_S)])
    marker.write_text(str(child.pid))
    sleep(marker)


def well(marker: Path) -> None:
    return


def nan_build(*arguments: Any) -> Any:
    """Build a model that loses its numbers in training, as a learning rate that is too high does."""
    model = build(*arguments)
    learn = model.learn

    def bad_learn(*inner: Any, **options: Any) -> Any:
        learn(*inner, **options)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.fill_(float("nan"))
        return model

    setattr(model, "learn", bad_learn)  # noqa: B010  (mypy holds methods for constants)
    return model


HABITS: dict[str, Callable[[Path], None]] = {
    "sleep": sleep,
    "hog": hog,
    "fail": fail,
    "die": die,
    "die_once": die_once,
    "leave_once": leave_once,
    "start_a_child": start_a_child,
    "stop_in_lock": well,
    "nan": well,
}
