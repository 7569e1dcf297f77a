"""Trainers that misbehave in real worker processes, as the target of their supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from optimize.agents.build import build
from optimize.agents.train import train
from optimize.search.space import suggest
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trial import run_trial
from optimize.study.workers.process import Seat, work
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.studies import opened, small_spec

ANY = -1  # every trial that has no habit of its own
FOREVER_S = 600.0
CHUNK = 64 * 2**20
CHUNKS = 64


def misbehave(habits: dict[int, str], spec: StudySpec, seat: Seat) -> None:
    """Be a worker whose trainer has a bad habit in some trials, by their number."""
    now = [ANY]
    patch = pytest.MonkeyPatch()  # for good: the process is this worker's own

    def noting_trial(resolved: StudySpec, ground: Any, entropy: list[int], **rest: Any) -> Any:
        now[0] = entropy[-1]
        return run_trial(resolved, ground, entropy, **rest)

    def bad_train(*arguments: Any, **options: Any) -> Any:
        habit = habits.get(now[0], habits.get(ANY))
        patch.setattr("optimize.agents.train.build", nan_build if habit == "nan" else build)
        if habit is not None:
            HABITS[habit](Path(spec.output_dir) / f"{habit}_{now[0]}")
        return train(*arguments, **options)

    def stopping_suggest(*arguments: Any) -> Any:
        if first_time(Path(spec.output_dir) / "stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return suggest(*arguments)

    patch.setattr("optimize.study.claims.perform.run_trial", noting_trial)
    patch.setattr("optimize.study.trial.train", bad_train)
    if "stop_in_lock" in habits.values():
        patch.setattr("optimize.study.claims.caps.suggest", stopping_suggest)
    work(spec, seat)


def report(spec: StudySpec, seat: Seat) -> None:
    """Write down what a worker process was started with, as the kernel knows it."""
    environment = Path("/proc/self/environ").read_text().replace("\0", "\n")
    folder = Path(spec.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"environment_{seat.worker}").write_text(environment)


def first_time(marker: Path) -> bool:
    """Say whether this is the first process to ask."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def sleep(marker: Path) -> None:
    time.sleep(FOREVER_S)


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
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER_S})"])
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


def main() -> None:
    """Run a small study of two misbehaving workers: FOLDER HABIT."""
    from tests.optimize.study.trainers import misbehave as target  # a worker imports no main module

    folder, habit = Path(sys.argv[1]), sys.argv[2]
    spec = small_spec(folder, n_trials=2, worker=WorkerSpec(count=2))
    Supervisor(opened(spec), partial(target, {ANY: habit})).run(lambda: None)


if __name__ == "__main__":
    main()
