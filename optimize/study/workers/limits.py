"""What a worker may use: the wall clock of a trial and resident memory; and a worker that stands still."""

import os
from collections.abc import Collection
from dataclasses import dataclass

import psutil

from optimize.database import LOCK_TIMEOUT_S
from optimize.study.spec import WorkerSpec

MB = 2**20


@dataclass(frozen=True)
class Sight:
    """What the supervisor sees of a worker."""

    seconds: float | None  # its trial has run; None between two trials
    resident_mb: float  # of the worker and the processes it started
    stopped_s: float  # by SIGSTOP


@dataclass(frozen=True)
class Breach:
    """Why a worker is killed, and how its trial fails; without a kind it does not."""

    kind: str | None
    message: str


def breach(worker: WorkerSpec, sight: Sight) -> Breach | None:
    """Return the limit that a worker broke, or None."""
    # Half of the lock's time-out: a worker that was stopped in the study lock must not make others give up.
    patience_s = min(worker.lease_s, LOCK_TIMEOUT_S / 2)
    if sight.stopped_s > patience_s:
        return Breach(None, f"stopped by a signal for over {patience_s:g} s")
    if worker.max_memory_mb is not None and sight.resident_mb > worker.max_memory_mb:
        used = f"{sight.resident_mb:.0f} MB are over worker.max_memory_mb={worker.max_memory_mb}"
        return Breach("oom" if sight.seconds is not None else None, used)
    if worker.trial_timeout_s is not None and (sight.seconds or 0) > worker.trial_timeout_s:
        return Breach("timeout", f"the trial ran over worker.trial_timeout_s={worker.trial_timeout_s:g}")
    return None


def resident_mb(groups: Collection[int]) -> dict[int, float]:
    """Return the resident memory of each process group, pages shared with others included."""
    found = dict.fromkeys(groups, 0.0)
    for pid in psutil.pids():
        try:
            group = os.getpgid(pid)
            if group in found:
                found[group] += psutil.Process(pid).memory_info().rss / MB
        except (ProcessLookupError, PermissionError, psutil.Error):  # it ended, or is not ours
            continue
    return found


def is_stopped(pid: int) -> bool:
    """Say whether a process was stopped by a signal."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
