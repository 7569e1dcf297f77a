"""The command line as a process of its own, and its worker processes as the database knows them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from optimize.database import is_sqlite
from optimize.study.spec import StudySpec
from tests.optimize.study.studies import rows

PATIENCE_S = 200.0
SAID = "said.txt"  # file that holds the output of a study's process
OVERRIDES = (
    "preflight=false",
    "data=synthetic",
    "data.synthetic.bars=1440",
    "env.rebalance_band=0",
    "feature.lookback=2",
    "feature.indicators=[returns]",
    "agent.n_envs=2",
    "agent.net=tiny",
    "agent.engine=stock",  # slow enough to be caught at it
    "agent.n_steps=16",
    "agent.batch_size=32",
    "agent.total_timesteps=64",
    "agent.n_epochs=1",
    "window.count=2",
    "window.train_ratio=2",
    "window.min_train_bars=20",
    "score.min_periods=2",
    "score.min_trades=0",
    "score.min_volatility=0",
    "pruner=none",
    "~space.agent",
    "~space.feature",
    "~space.train",
    "+space.agent.learning_rate={low:1e-4,high:1e-2,log:true}",
)


def arguments_of(spec: StudySpec, *overrides: str) -> tuple[str, ...]:
    """Return the arguments of `walkforge study` for a small study."""
    study = (f"name={spec.name}", f"n_trials={spec.n_trials}", f"worker.count={spec.worker.count}")
    return (
        *study,
        f"output_dir={spec.output_dir}",
        f"database.url={spec.database.url}",
        *OVERRIDES,
        *overrides,
    )


@contextmanager
def study_process(folder: Path, spec: StudySpec, *overrides: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `walkforge study` in a session of its own; nothing of it outlives the block."""
    command = [sys.executable, "-m", "optimize", "study", *arguments_of(spec, *overrides)]
    with (folder / SAID).open("ab") as said:
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            for member in [psutil.Process(process.pid)] if process.poll() is None else []:
                for child in member.children(recursive=True):
                    child.kill()
                member.kill()
            process.wait()


def said(folder: Path) -> str:
    return (folder / SAID).read_text()


def finish(folder: Path, spec: StudySpec, *overrides: str) -> int:
    """Run `walkforge study` to its end and return its exit code."""
    with study_process(folder, spec, *overrides) as process:
        return process.wait(PATIENCE_S)


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition on other processes is true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def leased(spec: StudySpec) -> dict[int, int]:
    """Return the pid of the worker of each trial, or nothing while there is no table yet."""
    in_file = "SELECT name FROM sqlite_master WHERE name = 'wf_leases'"
    on_server = "SELECT 1 WHERE to_regclass('wf_leases') IS NOT NULL"
    if not rows(spec, in_file if is_sqlite(spec.database.url) else on_server):
        return {}
    return dict(rows(spec, "SELECT trial_number, pid FROM wf_leases WHERE renewed_at > 0"))


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
