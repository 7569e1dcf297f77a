"""Where a GPU pays: stock, graphed and K stacked trainings on it, against ours compiled on the CPU.

Steps of the environment per second and trial, whole training included, trials of 20,000 steps a minute, and
the most device memory that torch held. `stacked` trains K trials of one shape as one: a prototype of PPO and
SAC without schedules or target_kl, in this folder. With --workers: a real study with 1, 2 ... processes on
GPU 0. Wall time, so on an idle machine; ends with one JSON line.
"""

import argparse
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

import torch  # noqa: E402  (thread limits must be set before it is imported)
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402

from benchmarks import scaling  # noqa: E402
from benchmarks.stacked_ppo import StackedPPO  # noqa: E402
from benchmarks.stacked_sac import StackedSAC  # noqa: E402
from benchmarks.training import EPISODE, Case, make_market, sac, world  # noqa: E402
from envs.episodes import RandomEpisodes  # noqa: E402
from envs.types import Market  # noqa: E402
from envs.vector import TradingVectorEnv  # noqa: E402
from optimize.agents.build import build  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.agents.vecenv import SB3VecEnv  # noqa: E402

TRIAL_STEPS = 20_000  # of one trial, by which steps a second become trials a minute
LOOKBACKS = {33: 1, 153: 5, 903: 30}
NETS = {64: "small", 256: "large"}
STACKS, QUICK_STACKS, SMALL_STACKS = (1, 4, 16, 64, 256), (1, 16, 256), (2,)
REPLAY = 5000  # transitions that each trial of a stack keeps, so that 256 of them fit
ENGINES = ("stock", "graphed")
PPO = {"n_steps": 256, "batch_size": 64, "n_epochs": 10}
QUICK_KEYS = ("ppo_d33_h64", "ppo_d903_h64", "ppo_d153_h256", "sac_d33_h64")
CASES = (
    *(
        Case(f"ppo_d{size}_h{width}", "ppo", lookback, 8, PPO, net=net)
        for width, net in NETS.items()
        for size, lookback in LOOKBACKS.items()
    ),
    *(
        sac(f"d{size}_h{width}", lookback, 0.0, net)
        for width, net in NETS.items()
        for size, lookback in LOOKBACKS.items()
    ),
)


def shrink(case: Case) -> Case:
    """Return the case with rollouts that are over in a moment."""
    few = {"n_steps": 32, "n_epochs": 1} if case.name == "ppo" else {"batch_size": 16, "learning_starts": 0}
    return replace(case, hyperparameters=case.hyperparameters | few)


def make_env(case: Case, market: Market, trials: int = 1) -> TradingVectorEnv:
    """Return the environments of so many trials."""
    episodes = RandomEpisodes(case.lookback - 1, market.n_bars - 1, EPISODE)
    return TradingVectorEnv(market, episodes, num_envs=trials * case.n_envs, seed=0, **world(case))


def make_model(case: Case, market: Market, device: str, engine: str) -> BaseAlgorithm:
    """Return the model of an engine on the native vector environment."""
    return build(replace(case.spec, device=device, engine=engine), SB3VecEnv(make_env(case, market)), seed=0)


def make_stacked(case: Case, market: Market, device: str, trials: int) -> Any:
    """Return so many trainings in one."""
    models, env = [make_model(case, market, device, "stock")] * trials, make_env(case, market, trials)
    return StackedPPO(models, env) if case.name == "ppo" else StackedSAC(models, env, REPLAY)


def advance(case: Case, model: BaseAlgorithm) -> int:
    """Train for a rollout, or a hundred steps; return the steps made."""
    steps = case.rollout if case.name == "ppo" else 100
    model.learn(steps, reset_num_timesteps=False)
    return steps


def advance_stacked(case: Case, learner: Any) -> int:
    """Train for a rollout, or a hundred steps; return the steps that each trial made."""
    learner.learn(1 if case.name == "ppo" else 100)
    return case.rollout if case.name == "ppo" else 100


def time_steps(advancing: Callable[[], int], seconds: float, device: str) -> float:
    """Return the steps a second over at least so many seconds, after two rounds that warm up."""
    for _ in range(2):
        advancing()
    await_device(device)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        steps += advancing()
        await_device(device)
    return steps / (time.perf_counter() - started)


def await_device(device: str) -> None:
    """Wait until the GPU has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def describe(steps_per_s: float, trials: int, device: str) -> dict[str, Any]:
    """Return the row of a contender that runs so many trials at once, each at this speed."""
    peak = round(torch.cuda.max_memory_allocated() / 1e6) if device.startswith("cuda") else None
    return {
        "steps_per_s_per_trial": round(steps_per_s, 1),
        "trials": trials,
        "trials_per_minute": float(f"{60 * trials * steps_per_s / TRIAL_STEPS:.4g}"),
        "peak_mb": peak,
    }


def measure_one(case: Case, market: Market, device: str, engine: str, seconds: float) -> dict[str, Any]:
    """Measure one training of an engine."""
    reset_peak(device)
    model = make_model(case, market, device, engine)
    return describe(time_steps(lambda: advance(case, model), seconds, device), 1, device)


def measure_stacked(case: Case, market: Market, device: str, trials: int, seconds: float) -> dict[str, Any]:
    """Measure so many trainings in one, or say that they do not fit."""
    reset_peak(device)
    try:
        learner = make_stacked(case, market, device, trials)
        speed = time_steps(lambda: advance_stacked(case, learner), seconds, device)
    except torch.OutOfMemoryError:
        return {"trials": trials, "failed": "out of device memory"}
    return describe(speed, trials, device)


def reset_peak(device: str) -> None:
    """Count the device memory from here."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def compiled_speed(case: Case, seconds: float) -> float:
    """Return the steps a second of one compiled training in this process."""
    limit_threads(1)
    model = make_model(case, make_market(case.lookback), "cpu", "compiled")
    return time_steps(lambda: advance(case, model), seconds, "cpu")


def measure_cores(case: Case, cores: int, seconds: float) -> dict[str, Any]:
    """Measure a compiled training on every core at once; the speed is the mean of them."""
    context = get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        # the first round starts and warms the processes, so that the second runs side by side
        list(pool.map(compiled_speed, [case] * cores, [0.0] * cores))
        speeds = list(pool.map(compiled_speed, [case] * cores, [seconds] * cores))
    return describe(sum(speeds) / cores, cores, "cpu")


def measure(case: Case, device: str, stacks: Sequence[int], seconds: float, cores: int) -> dict[str, Any]:
    """Measure all contenders of one case; print each."""
    market = make_market(case.lookback)
    found = {"compiled, 1 core": measure_one(case, market, "cpu", "compiled", seconds)}
    if cores > 1:
        found[f"compiled, {cores} cores"] = measure_cores(case, cores, seconds)
    found |= {engine: measure_one(case, market, device, engine, seconds) for engine in ENGINES}
    for trials in stacks:
        found[f"stacked, K={trials}"] = measure_stacked(case, market, device, trials, seconds)
    for name, row in found.items():
        print(
            f"{case.key:16}{name:20}" + "".join(f"{key}={value}  " for key, value in row.items()), flush=True
        )
    return found


def measure_workers(counts: Sequence[int], device: str, quick: bool) -> dict[str, Any]:
    """Run a small study with so many processes on one GPU; return trials a minute and device memory."""
    steps, found = 2048 if quick else 8192, {}
    for engine in ENGINES:
        for count in counts:
            with DeviceMemory(device) as memory:
                rate, seconds = scaling.study(
                    count, max(4, 2 * count), steps, device, f"agent.engine={engine}"
                )
            row = {
                "trials_per_minute": round(rate, 1),
                "device_mb": memory.most_mb(),
                "seconds": round(seconds),
            }
            found[f"{engine}, {count}"] = row
            print(f"workers         {engine}, {count}: {row}", flush=True)
    return found


class DeviceMemory:
    """Looks four times a second at what all processes hold of GPU 0."""

    def __init__(self, device: str) -> None:
        self._on_gpu, self._most, self._done = device.startswith("cuda"), 0, threading.Event()
        self._before = self._held() if self._on_gpu else 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "DeviceMemory":
        if self._on_gpu:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._on_gpu:
            self._thread.join()

    def most_mb(self) -> int | None:
        """Return the most memory beyond what was held before, None on a CPU."""
        return round((self._most - self._before) / 1e6) if self._on_gpu else None

    def _look(self) -> None:
        while not self._done.wait(0.25):
            self._most = max(self._most, self._held())

    def _held(self) -> int:
        free, total = torch.cuda.mem_get_info(0)
        return total - free


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument(
        "--quick", action="store_true", help="four shapes, two seconds each; under five minutes"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument("--only", default="", help="the cases whose key begins so")
    parser.add_argument("--workers", type=int, nargs="*", help="measure studies instead (default: 1 2 4 8)")
    asked = parser.parse_args()
    limit_threads(1)
    device, started = choose_device(parser, asked.device), time.perf_counter()
    result: dict[str, Any] = {"benchmark": "gpu", "device": device, "cases": {}}
    if device == "cuda":
        result["gpu"] = torch.cuda.get_device_name(0)
    if device is not None and asked.workers is not None:
        result["workers"] = measure_workers(asked.workers or (1, 2, 4, 8), device, asked.quick)
    elif device is not None:
        result["cases"] = measure_all(device, asked)
    machine = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }
    print(json.dumps(result | machine | {"seconds": round(time.perf_counter() - started, 1)}))


def choose_device(parser: argparse.ArgumentParser, wanted: str) -> str | None:
    """Return where to measure, None where nothing can be."""
    if wanted == "cpu" or torch.cuda.is_available():
        return "cpu" if wanted == "cpu" else "cuda"
    if wanted == "cuda":
        parser.error("no CUDA device here: --device cpu shows it at small sizes")
    print("no CUDA device here: nothing is measured; --device cpu shows it at small sizes")
    return None


def measure_all(device: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases asked for; on a CPU small ones alone."""
    keys = QUICK_KEYS if asked.quick else [case.key for case in CASES]
    if device == "cpu":
        keys = ["ppo_d33_h64", "sac_d33_h64"]
    stacks = SMALL_STACKS if device == "cpu" else QUICK_STACKS if asked.quick else STACKS
    seconds = 0.01 if asked.tiny else 2.0 if asked.quick or device == "cpu" else 5.0
    cores = 1 if asked.tiny else len(os.sched_getaffinity(0))
    chosen = [case for case in CASES if case.key in keys and case.key.startswith(asked.only)]
    return {
        case.key: measure(shrink(case) if asked.tiny else case, device, stacks, seconds, cores)
        for case in chosen
    }


if __name__ == "__main__":
    main()
