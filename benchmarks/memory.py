"""Memory of a worker beside a shared market, its start, bytes of a replay; ends with one JSON line.

1. `workers`: a study of 1, 2 and 4 workers, as a user starts it, looked at while it trains: resident (RSS),
   proportional (PSS) and unique (USS) memory of each worker, from /proc/PID/smaps_rollup, and how much of the
   memory-mapped market each has to itself. Medians over the workers of the peak of each.
2. `start`: seconds from starting a worker process until it has all that it imports, from the warm forkserver
   and by spawn, in turns, and what the process then has to itself.
3. `replay`: bytes of a replay of 1M transitions whose observations have 903 numbers: bar indices against the
   windows of stable-baselines3, whose share is taken of a smaller one.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
from stable_baselines3.common.buffers import ReplayBuffer

from optimize.agents.kernels.off_policy.replay import make_replay
from optimize.study.workers.process import PRELOAD

MB = 2**20
TRANSITIONS, OBSERVATION, BESIDE = 1_000_000, 903, 3
SMALLER = 1000  # times: stable-baselines3's whole replay may be refused by the machine
TARGET_REPLAY_MB = 100.0
LOOK_S = 0.2
MARKET = "/market/"  # in the path of every array of a market
OVERRIDES = (
    "preflight=false", "data=synthetic", "feature=all_indicators", "window.count=2", "pruner=none",
    "sampler=random", "~space.agent", "+space.agent.learning_rate={low:1e-4,high:1e-3,log:true}",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    workers: tuple[int, ...]
    bars: int
    steps: int
    rounds: int  # of starts


FULL = Size(workers=(1, 2, 4), bars=100_000, steps=65_536, rounds=7)
QUICK = Size(workers=(1, 2), bars=20_000, steps=32_768, rounds=3)


@dataclass(frozen=True)
class Usage:
    """The memory of one worker in MB."""

    resident: float
    proportional: float
    unique: float
    market: float  # resident
    market_unique: float


def see(pid: int) -> Usage | None:
    """Read the memory of a process; None where it has ended or has no market yet."""
    try:
        rollup = sums(Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
        market = sums(mapped(Path(f"/proc/{pid}/smaps").read_text().splitlines()))
    except (OSError, psutil.Error):
        return None
    if "Rss" not in market or "Rss" not in rollup:
        return None
    return Usage(rollup["Rss"], rollup["Pss"], unique(rollup), market["Rss"], unique(market))


def mapped(lines: Iterable[str]) -> Iterable[str]:
    """Yield the lines of the arrays of a market."""
    inside = False
    for line in lines:
        if not line.split(" ", 1)[0].endswith(":"):  # a mapping begins
            inside = MARKET in line and line.endswith(".npy")
        elif inside:
            yield line


def sums(lines: Iterable[str]) -> dict[str, float]:
    """Sum lines such as 'Rss: 12 kB' by their name, in MB."""
    total: dict[str, float] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            total[name] = total.get(name, 0.0) + int(value.split()[0]) / 1024
    return total


def unique(total: dict[str, float]) -> float:
    """Return what no other process has mapped."""
    return total["Private_Clean"] + total["Private_Dirty"]


def workers_of(pid: int) -> list[int]:
    """Return the processes that the forkserver of a study forked."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        servers = {child.pid for child in children if "forkserver" in " ".join(child.cmdline())}
        return [child.pid for child in children if child.ppid() in servers]
    except psutil.Error:
        return []


def watch_study(folder: Path, count: int, size: Size) -> dict[str, float]:
    """Run a study of so many workers; return the median over them of their peaks."""
    sizes = [f"name=memory{count}", f"worker.count={count}", f"n_trials={2 * count}"]
    sizes += [f"data.synthetic.bars={size.bars}", f"agent.total_timesteps={size.steps}"]
    command = [sys.executable, "-m", "optimize", "study", *OVERRIDES, *sizes]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    seen: dict[int, list[Usage]] = {}
    while running.poll() is None:
        for pid in workers_of(running.pid):
            usage = see(pid)
            if usage is not None:
                seen.setdefault(pid, []).append(usage)
        time.sleep(LOOK_S)
    if running.returncode or len(seen) < count:
        raise RuntimeError(
            f"a study of {count} workers ended with {running.returncode}, {len(seen)} were seen"
        )
    peaks = [
        {name: max(getattr(usage, name) for usage in sights) for name in Usage.__annotations__}
        for sights in seen.values()
    ]
    return {
        f"{name}_mb": round(statistics.median(peak[name] for peak in peaks), 1)
        for name in Usage.__annotations__
    }


def market_mb(folder: Path) -> float:
    """Return the size of the market's arrays on disk."""
    return round(sum(path.stat().st_size for path in folder.rglob("*.npy") if MARKET in str(path)) / MB, 1)


def come_up(channel: Connection) -> None:
    """Import what a worker does and say what memory this process then has to itself."""
    for module in PRELOAD:
        importlib.import_module(module)
    rollup = sums(Path("/proc/self/smaps_rollup").read_text().splitlines())
    channel.send(unique(rollup))


def starts(rounds: int) -> dict[str, Any]:
    """Return medians of the seconds to start a worker either way, and of its unique memory."""
    contexts: dict[str, Any] = {name: multiprocessing.get_context(name) for name in ("forkserver", "spawn")}
    contexts["forkserver"].set_forkserver_preload(PRELOAD)
    seconds: dict[str, list[float]] = {name: [] for name in contexts}
    memory: dict[str, list[float]] = {name: [] for name in contexts}
    first = 0.0
    for number in range(rounds + 1):
        for name, context in contexts.items():
            ours, theirs = context.Pipe(duplex=False)
            started = time.perf_counter()
            process = context.Process(target=come_up, args=(theirs,))
            process.start()
            unique_mb = ours.recv()
            took = time.perf_counter() - started
            process.join()
            if number:
                seconds[name].append(took)
                memory[name].append(unique_mb)
            elif name == "forkserver":
                first = took  # the server itself
    return {
        "forkserver_itself_s": round(first, 2),
        "seconds": {name: [round(each, 4) for each in found] for name, found in seconds.items()},
        "median_s": {name: round(statistics.median(found), 4) for name, found in seconds.items()},
        "unique_mb": {name: round(statistics.median(found), 1) for name, found in memory.items()},
        "times_as_fast": round(
            statistics.median(
                slow / fast for slow, fast in zip(seconds["spawn"], seconds["forkserver"], strict=True)
            ),
            1,
        ),
    }


def replays() -> dict[str, float]:
    """Return the MB of a replay of bar indices and of stable-baselines3's, of one asset."""
    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32),
        gymnasium.spaces.Box(-1, 1, (1,)),
    )
    ours = make_replay(TRANSITIONS, 1, BESIDE, 1)
    theirs = ReplayBuffer(TRANSITIONS // SMALLER, *spaces, device="cpu")
    windows = sum(value.nbytes for value in vars(theirs).values() if isinstance(value, np.ndarray))
    return {
        "index_mb": round(sum(array.nbytes for array in ours) / MB, 1),
        "stock_mb": round(SMALLER * windows / MB, 1),
        "target_mb": TARGET_REPLAY_MB,
    }


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 and 2 workers on a small market")
    parser.add_argument("--tiny", action="store_true", help="no studies: start processes, count replays")
    asked = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").is_file():
        sys.exit("this machine has no /proc/PID/smaps_rollup, which Linux has: memory is not measured here")
    size = QUICK if asked.quick or asked.tiny else FULL
    began = time.perf_counter()
    replay = replays()
    print(f"replay of 1M transitions: {replay['index_mb']} MB, stock {replay['stock_mb']} MB", flush=True)
    start = starts(1 if asked.tiny else size.rounds)
    print(f"start of a worker: {start['median_s']} s, unique {start['unique_mb']} MB", flush=True)
    workers = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in () if asked.tiny else size.workers:
            workers[str(count)] = watch_study(Path(folder), count, size)
            print(f"{count} workers, each: {workers[str(count)]}", flush=True)
        market = market_mb(Path(folder))
    result = {
        "benchmark": "memory",
        "market_mb": market,
        "workers": workers,
        "start": start,
        "replay": replay,
        "reached": replay["index_mb"] < TARGET_REPLAY_MB,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
