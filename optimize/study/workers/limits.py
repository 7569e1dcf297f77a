"""Limits of a worker: wall-clock time of a trial, resident memory, and the time it may stand stopped."""

import os
from collections.abc import Collection
from dataclasses import dataclass

import psutil

from optimize.database import LOCK_TIMEOUT_S
from optimize.results.states import FailureKind
from optimize.study.spec import WorkerSpec

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Usage:
    """Resource usage of a worker, as measured by its supervisor."""

    seconds: float | None  # run time of its trial; None between two trials
    resident_mb: float  # of the worker and the processes it started
    stopped_s: float  # time since SIGSTOP


@dataclass(frozen=True)
class LimitExceeded:
    """A limit that a worker exceeded, and the failure kind of its trial; None: the trial does not fail."""

    kind: FailureKind | None
    message: str


def exceeded_limit(worker: WorkerSpec, usage: Usage) -> LimitExceeded | None:
    """Return the limit that a worker exceeded, or None."""
    # Half of the lock's time-out: a worker that is stopped within the study lock must not make others fail.
    patience_s = min(worker.lease_s, LOCK_TIMEOUT_S / 2)
    if usage.stopped_s > patience_s:
        return LimitExceeded(None, f"stopped by a signal for over {patience_s:g} s")
    if worker.max_memory_mb is not None and usage.resident_mb > worker.max_memory_mb:
        used = f"{usage.resident_mb:.0f} MB are over worker.max_memory_mb={worker.max_memory_mb}"
        return LimitExceeded(FailureKind.OUT_OF_MEMORY if usage.seconds is not None else None, used)
    if worker.trial_timeout_s is not None and (usage.seconds or 0) > worker.trial_timeout_s:
        return LimitExceeded(
            FailureKind.TIMEOUT, f"the trial ran over worker.trial_timeout_s={worker.trial_timeout_s:g}"
        )
    return None


def resident_mb(groups: Collection[int]) -> dict[int, float]:
    """Return the resident memory of each process group, pages shared with others included."""
    found = dict.fromkeys(groups, 0.0)
    for pid in psutil.pids():
        try:
            group = os.getpgid(pid)
            if group in found:
                found[group] += psutil.Process(pid).memory_info().rss / MEBIBYTE
        except (ProcessLookupError, PermissionError, psutil.Error):  # it ended, or belongs to another user
            continue
    return found


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped by a signal."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
