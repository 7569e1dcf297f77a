"""Identity of a process: host, process id and start time, which differs where an id is reused."""

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
STARTED_FIELD = 19  # of /proc/PID/stat after the name: ticks from boot to the start of the process


@dataclass(frozen=True)
class Identity:
    """Process id and start time of a process on one machine."""

    pid: int
    started: float  # seconds since boot, unaffected by changes of the wall clock


def identity(pid: int | None = None) -> Identity:
    """Return the identity of a process, this one by default."""
    number = os.getpid() if pid is None else pid
    return Identity(number, _started(number))


def this_host() -> str:
    """Return NAME#MARK, which differs between hosts, boots and containers with process ids of their own."""
    mark = _place()
    return f"{socket.gethostname()}#{mark}" if mark else socket.gethostname()


def host_name(host: str) -> str:
    """Return the name of a host without its mark."""
    return host.partition("#")[0]


def process_alive(host: str, pid: int, started: float) -> bool:
    """Return whether a process still runs; one on another host counts as running."""
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
    """Return whether a process of this machine was stopped by a signal."""
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
    """Return a mark of this boot of the machine and this namespace of process ids; "" outside of Linux.

    Two containers on one machine, or two pods with hostNetwork, can have the same host name.
    """
    try:
        boot, processes = BOOT_ID.read_text(encoding="ascii").strip(), str(PID_SPACE.readlink())
    except OSError:  # no Linux: one boot, one namespace of process ids
        return ""
    return hashlib.sha256(f"{boot} {processes}".encode()).hexdigest()[:8]
