"""CPU time of whole processes, for the benchmarks that compare versions."""

import ctypes
import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36  # of Linux: orphans become children of this process
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def cpu_seconds(command: list[str], folder: Path) -> float:
    """Return user and system seconds of a process in a folder and of its descendants.

    The benchmark ends where the process fails. Workers whose parent ends before them are waited for here.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    others = {child.pid for child in psutil.Process().children()}  # such as a server of forks, which stays
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # of this version
    done = subprocess.run(
        command, cwd=folder, env=own | ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    while adopted := [child.pid for child in psutil.Process().children() if child.pid not in others]:
        with suppress(ChildProcessError):
            os.waitpid(adopted[0], 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
