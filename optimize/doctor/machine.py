"""The doctor's look at the machine: cores, memory, GPUs, threads, disks."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from optimize.agents.devices import count_gpus, device_name
from optimize.doctor.findings import FAIL, OK, WARN, Finding
from optimize.report.format import gigabytes
from optimize.study.workers.gpus import THREAD_VARIABLES, usable_cores

LITTLE_MEMORY = 1e9  # bytes: a worker with torch takes about half of it
LITTLE_DISK, NO_DISK = 5e9, 2e8  # bytes


def examine_machine(folders: dict[str, Path]) -> Iterator[Finding]:
    """Yield findings on cores, memory, GPUs and disk; folders are those that studies write to, by name."""
    yield _cores()
    yield _memory()
    yield _gpu()
    yield _threads()
    for name, folder in folders.items():
        yield _disk(name, folder)


def _cores() -> Finding:
    cores, load = usable_cores(), os.getloadavg()[0]
    said = f"{cores} of {os.cpu_count()} cores usable, load {load:.1f}"
    if load > 1.5 * cores:
        return Finding("cores", WARN, said, "the machine is busy already: trials take longer than they need")
    return Finding("cores", OK, said)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    said = f"{gigabytes(memory.available)} of {gigabytes(memory.total)} free"
    if memory.available < LITTLE_MEMORY:
        return Finding(
            "memory", WARN, said, "end something else, use fewer workers, or set worker.max_memory_mb"
        )
    return Finding("memory", OK, said)


def _gpu() -> Finding:
    count = count_gpus()
    if count == 0 and shutil.which("nvidia-smi") is not None:
        remedy = "install a torch built for CUDA and a driver that fits, or set worker.devices=cpu"
        return Finding("gpu", WARN, "the driver's tools are here, and torch sees no GPU", remedy)
    names = ", ".join(f"{index}: {device_name(f'cuda:{index}')}" for index in range(count))
    return Finding("gpu", OK, names or "none: trials run on the CPU")


def _threads() -> Finding:
    cores = usable_cores()
    found = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    said = ", ".join(f"{name}={value}" for name, value in found.items()) or "no thread variable is set"
    if any(value.isdigit() and int(value) > cores for value in found.values()):
        return Finding("threads", WARN, said, f"unset what is above the {cores} cores; workers set their own")
    return Finding("threads", OK, f"{said}; workers take worker.threads each")


def _disk(name: str, folder: Path) -> Finding:
    place = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    said = f"{gigabytes(free)} free for {name} in {folder}"
    if not os.access(place, os.W_OK):
        return Finding("disk", FAIL, f"{place} cannot be written to", f"choose another place for {name}")
    if free < NO_DISK:
        return Finding("disk", FAIL, said, "make room before a study runs out of it")
    if free < LITTLE_DISK:
        return Finding("disk", WARN, said, "make room: a trial leaves up to some megabytes")
    return Finding("disk", OK, said)
