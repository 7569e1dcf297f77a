"""Assign GPUs and threads to worker processes, and set the environment in which they start."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

from optimize.agents.devices import count_gpus
from optimize.data.sources.clients.access import key_variables
from optimize.errors import BadInputError
from optimize.study.spec import StudySpec, WorkerSpec

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PLOT_BACKEND = "MPLBACKEND"
NOTIFY_VARIABLE = "WALKFORGE_NOTIFY_URLS"  # addresses with tokens in them
LOCK_POLL_S = 0.1  # polling interval of a lock


CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Device:
    """One GPU."""

    index: int  # as in worker.devices, from 0
    visible: str  # value of CUDA_VISIBLE_DEVICES that shows a process this GPU alone


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = count_gpus()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))


def find_devices(worker: WorkerSpec, agent_device: str, gpus: Sequence[str]) -> tuple[Device, ...]:
    """Return the GPUs that the workers share, none for work on the CPU; raise BadInputError for a bad list.

    `gpus` are the GPUs found by `visible_gpus`.
    """
    asked = worker.devices
    some = {0: "no GPU", 1: "one GPU, number 0,"}.get(len(gpus), f"{len(gpus)} GPUs, from 0 on,")
    has = f"this machine has {some} that torch can use"
    if isinstance(asked, list):
        missing = [index for index in asked if index >= len(gpus)]
        if missing:
            raise BadInputError(
                f"worker.devices={asked}: there is no GPU {missing[0]}, {has}: name others, or "
                "write worker.devices=cpu"
            )
        if agent_device == "cpu":
            raise BadInputError(
                f"worker.devices={asked} would hold GPUs that agent.device=cpu never uses: set "
                "agent.device=cuda, or leave worker.devices out"
            )
    if agent_device not in ("cpu", "auto", "cuda"):
        index = agent_device.removeprefix("cuda:")
        raise BadInputError(
            f"agent.device={agent_device!r} is not for a study, where each worker sees one GPU: write "
            f"agent.device=cuda worker.devices=[{index}]"
        )
    if agent_device == "cuda" and asked == "cpu":
        raise BadInputError("agent.device=cuda contradicts worker.devices=cpu: set agent.device=auto or cpu")
    if agent_device == "cuda" and not gpus:
        raise BadInputError(f"agent.device=cuda: {has}: set agent.device=auto or cpu")
    if agent_device == "cpu" or asked == "cpu":
        return ()
    chosen = range(len(gpus)) if asked == "auto" else asked
    devices = tuple(Device(index, gpus[index]) for index in chosen)
    _check_room(worker, devices)
    return devices


def devices_of(spec: StudySpec) -> tuple[Device, ...]:
    """Return the GPUs that the workers of a study share on this machine, none for work on the CPU."""
    if spec.worker.kind == "ray":  # the workers run on other machines with GPUs of their own
        return ()
    idle = spec.agent.device == "cpu" and not isinstance(spec.worker.devices, list)
    return find_devices(spec.worker, spec.agent.device, () if idle else visible_gpus())


def _check_room(worker: WorkerSpec, devices: Sequence[Device]) -> None:
    room = len(devices) * worker.per_device
    if devices and worker.count > room:
        raise BadInputError(
            f"worker.count={worker.count} does not fit on {len(devices)} GPU{'s' * (len(devices) != 1)} with "
            f"worker.per_device={worker.per_device}: lower it to {room}, or raise worker.per_device"
        )


def least_used_device(devices: Sequence[Device], load: Mapping[int, int]) -> Device | None:
    """Return the GPU with the fewest workers, the first of equals; None where there is none.

    `load` is the number of workers by GPU index.
    """
    return min(devices, key=lambda device: load.get(device.index, 0), default=None)


def memory_fraction(worker: WorkerSpec) -> float:
    """Return the share of its GPU's memory that each worker may use."""
    return worker.memory_fraction or 1 / worker.per_device


def threads_of(worker: WorkerSpec, cores: int) -> int:
    """Return the threads of each worker: as asked for, or an equal share of the cores."""
    return worker.threads or max(1, cores // worker.count)


def usable_cores(quota: float | None = None) -> int:
    """Return the cores that this process may run on, no more than its container's share of CPU time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cpu_quota() if quota is None else quota
    return cores if share is None else max(1, min(cores, math.ceil(share)))


def cpu_quota(groups: Path = CGROUPS, own: Path = OWN_CGROUP) -> float | None:
    """Return the CPU limit of this process's control groups (cgroup v1 or v2), None without a limit."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    shares = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            read, root = _quota_v2, groups
        elif "cpu" in controllers.split(","):
            read, root = _quota_v1, groups / controllers
        else:
            continue
        # In a container the path may be that of the host, where only the root is mounted.
        inner = root / path.strip("/")
        for folder in (inner, *inner.parents):
            shares.append(read(folder))
            if folder == root:
                break
    return min((share for share in shares if share is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        allowed, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) / int(period)


def _quota_v1(folder: Path) -> float | None:
    try:
        allowed, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
    except (OSError, ValueError):
        return None
    return allowed / period if allowed > 0 else None


@contextmanager
def worker_environment(device: Device | None, threads: int) -> Iterator[None]:
    """Start processes in this context with one visible GPU or none, a number of threads, and no secrets.

    Libraries read these variables on import; a forkserver keeps those of its first start.
    Keys of providers and addresses of notifications are removed: a worker downloads and sends nothing.
    """
    wanted: dict[str, str | None] = dict.fromkeys((*key_variables(), NOTIFY_VARIABLE))
    wanted |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    wanted[VISIBLE] = "" if device is None else device.visible
    wanted[PLOT_BACKEND] = "agg"  # the backend of a notebook may be missing in a worker
    before = {name: os.environ.get(name) for name in wanted}
    _set_environment(wanted)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def device_share(folder: Path, device: Device, *, alone: bool, waiting: Callable[[], None]) -> Iterator[None]:
    """Acquire a share of a GPU, or the whole GPU if `alone`; `waiting` is called at each poll until then.

    Every process passes a gate first, so that the device drains for one that waits to be alone. The kernel
    frees both locks when their holder dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"gpu_{device.visible}".replace("/", "_")
    gate = FileLock(folder / f"{name}.gate", is_singleton=False, fallback_to_soft=False)
    room = ReadWriteLock(folder / f"{name}.room.db", is_singleton=False)
    with closing(room):
        with _acquired(gate.acquire, waiting), ExitStack() as entered:
            entered.enter_context(_acquired(room.acquire_write if alone else room.acquire_read, waiting))
            share = entered.pop_all()
        with share:
            yield


@contextmanager
def _acquired(
    acquire: Callable[..., AbstractContextManager[object]], waiting: Callable[[], None]
) -> Iterator[None]:
    """Hold a lock; `waiting` is called while another process holds it."""
    while True:
        try:
            proxy = acquire(blocking=False)
            break
        except Timeout:
            waiting()
            time.sleep(LOCK_POLL_S)
    with proxy:
        yield
