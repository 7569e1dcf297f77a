"""Launch warnings: a pruner that prunes nothing, too little memory, costs by the share on adjusted prices."""

from pathlib import Path

import psutil

from optimize.data.spec import DataSpec
from optimize.study.spec import StudySpec
from optimize.study.workers.limits import MEBIBYTE

WORKER_MB = 512  # resident memory of a worker with torch, assumed where worker.max_memory_mb is not set
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # memory limit of a container: a number, or `max`


def launch_warnings(spec: StudySpec, windows: int, memory_mb: float) -> list[str]:
    """Return the launch warnings for this window count and memory, a line each."""
    found = (_idle_pruner(spec, windows), _little_memory(spec, memory_mb), _adjusted_shares(spec))
    return [word for word in found if word]


def memory_here() -> float:
    """Return the memory of this machine, or the limit of this process's container, in megabytes."""
    total = float(psutil.virtual_memory().total) / MEBIBYTE
    try:
        return min(total, int(GROUP_LIMIT.read_text(encoding="ascii")) / MEBIBYTE)
    except (OSError, ValueError):  # not Linux, or no limit
        return total


def _idle_pruner(spec: StudySpec, windows: int) -> str | None:
    """Return a warning if too few windows or trials are left for the pruner to act on."""
    spared = spec.pruner.n_warmup_steps
    too_short = spec.n_trials <= spec.pruner.n_startup_trials  # no trial is pruned before
    if spec.pruner.name == "none" or too_short or spared + 2 <= windows:
        return None
    return (
        f"pruner={spec.pruner.name} prunes nothing here: of {windows} windows it spares the first {spared} "
        "(pruner.n_warmup_steps), and after the last there is nothing to save: lower n_warmup_steps, raise "
        "window.count, or set pruner=none"
    )


def _little_memory(spec: StudySpec, memory_mb: float) -> str | None:
    worker = spec.worker
    each = worker.max_memory_mb or WORKER_MB
    if worker.kind != "local" or worker.count * each <= memory_mb:
        return None
    what = f"worker.max_memory_mb={each}" if worker.max_memory_mb else f"about {WORKER_MB} MB each"
    needed = f"{worker.count * each / 1024:.1f} GB"
    return (
        f"worker.count={worker.count} workers of {what} may need {needed}, and this machine has "
        f"{memory_mb / 1024:.1f} GB: use fewer, or set worker.max_memory_mb to what fits"
    )


def _adjusted_shares(spec: StudySpec) -> str | None:
    """Return a warning if costs count shares while adjusted prices change the number of shares."""
    keys = [key for key in ("commission_per_share", "slippage_per_share") if getattr(spec.cost, key) > 0]
    adjusted = _adjustment(spec.data)
    if not keys or adjusted is None:
        return None
    costs = " and ".join(f"cost.{key}={getattr(spec.cost, key):g}" for key in keys)
    return (
        f"{costs} count the shares of {adjusted} prices: before a split a share had another price, and its "
        "cost was another part of it: use costs in basis points, or bars after the last split (data.start)"
    )


def _adjustment(data: DataSpec) -> str | None:
    """Return the setting that adjusts prices for splits, or None."""
    if data.provider == "file":
        return "data.adjust=true" if data.adjust else None
    adjusts = data.provider in ("alpaca", "yfinance") and data.adjustment in ("split", "all")
    return f"data.adjustment={data.adjustment}" if adjusts else None
