"""Which process on which machine holds something, told apart from a later process with the same number."""

import functools
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TOLERANCE_S = 2.0  # no pid is reused this fast
SINCE_EPOCH = 1e9  # older versions stored start times since the epoch, which are beyond this many seconds
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_SPACE = Path("/proc/self/ns/pid")
STARTED_FIELD = 19  # of /proc/PID/stat behind the name: ticks from boot to the start of the process


@dataclass(frozen=True)
class Identity:
    """A process on one machine: its number and when it started."""

    pid: int
    started: float  # seconds since boot, which no step of the wall clock changes


def identity(pid: int | None = None) -> Identity:
    """Return the identity of a process, this one by default."""
    number = os.getpid() if pid is None else pid
    return Identity(number, _started(number))


def this_host() -> str:
    """Return what tells apart the places whose process ids mean different processes: NAME#MARK."""
    mark = _place()
    return f"{socket.gethostname()}#{mark}" if mark else socket.gethostname()


def host_name(host: str) -> str:
    """Return the name of a host as people know it."""
    return host.partition("#")[0]


def process_alive(host: str, pid: int, started: float) -> bool:
    """Say whether this very process still runs; one on another host is believed to."""
    if host != this_host():
        return True
    try:
        process = psutil.Process(pid)
        now = process.create_time() if started > SINCE_EPOCH else _started(pid)
        same = abs(now - started) <= START_TOLERANCE_S
        return bool(same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False
    except psutil.AccessDenied:
        return True


def stands_still(pid: int) -> bool:
    """Say whether a process of this machine was stopped by a signal."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _started(pid: int) -> float:
    """Return when a process started; raise where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if BOOT_ID.exists():
            raise
        return float(psutil.Process(pid).create_time())  # no Linux
    return float(stat.rpartition(")")[2].split()[STARTED_FIELD]) / os.sysconf("SC_CLK_TCK")


@functools.cache
def _place() -> str:
    """Return a mark of this boot of the machine and this space of process ids; "" where neither is known.

    Two containers on one machine, or the pods of hostNetwork on two, can bear the same host name.
    """
    try:
        boot, processes = BOOT_ID.read_text(encoding="ascii").strip(), str(PID_SPACE.readlink())
    except OSError:  # no Linux: one boot, one space of process ids
        return ""
    return hashlib.sha256(f"{boot} {processes}".encode()).hexdigest()[:8]
