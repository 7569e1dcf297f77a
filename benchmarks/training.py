"""Training steps per second of CPU time, compiled against stock stable-baselines3; ends with one JSON line.

Stock is what a user of stable-baselines3 has: the same market environment, one by one in a DummyVecEnv with
a Monitor each. Both have the same hyperparameters and networks and take turns, on one thread each, so that
CPU time is what they would take on an idle machine. A ratio is the median over rounds of the two speeds of
the same round. The share is that of the matrix products in it, at the speed of a large one.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import gymnasium  # noqa: E402  (thread limits must be set before numpy is imported)
import numpy as np  # noqa: E402
from stable_baselines3.common.base_class import BaseAlgorithm  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from envs.costs import CostSpec  # noqa: E402
from envs.episodes import RandomEpisodes  # noqa: E402
from envs.rewards import RewardSpec  # noqa: E402
from envs.single import TradingEnv  # noqa: E402
from envs.spec import EnvSpec  # noqa: E402
from envs.types import Market  # noqa: E402
from envs.vector import TradingVectorEnv  # noqa: E402
from optimize.agents.engines import local_engine  # noqa: E402
from optimize.agents.registry import action_of, find_algorithm  # noqa: E402
from optimize.agents.sb3.build import build, policy_arguments  # noqa: E402
from optimize.agents.sb3.vecenv import SB3VecEnv  # noqa: E402
from optimize.agents.spec import NETS, AgentSpec  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.data.calendars.spec import SessionSpec  # noqa: E402
from optimize.data.features.spec import FeatureSpec  # noqa: E402
from optimize.data.market import build_market  # noqa: E402
from optimize.data.spec import DataSpec, SyntheticSpec  # noqa: E402

FEATURES = 30
BESIDE = 3  # numbers of an observation that are no features
BARS = 20_000
EPISODE = 1000


@dataclass(frozen=True)
class Case:
    """One shape of training, and how many times stock it must be."""

    key: str
    name: str
    lookback: int
    n_envs: int
    hyperparameters: dict[str, Any]
    target: float | None = None
    net: str = "small"
    stock_steps: int = 2048  # of each round

    @property
    def observation(self) -> int:
        """Return D."""
        return self.lookback * FEATURES + BESIDE

    @property
    def rollout(self) -> int:
        """Return the steps between two updates, over all environments."""
        key = "n_steps" if find_algorithm(self.name).on_policy else "train_freq"
        return int(self.hyperparameters[key]) * self.n_envs

    @property
    def spec(self) -> AgentSpec:
        """Return the agent."""
        return AgentSpec(
            name=self.name,
            n_envs=self.n_envs,
            total_timesteps=10**7,
            net=self.net,
            activation="tanh" if find_algorithm(self.name).on_policy else "relu",
            hyperparameters=self.hyperparameters,
        )


def ppo(key: str, lookback: int, n_envs: int, n_steps: int, batch_size: int, target: float) -> Case:
    """Return a case of PPO with 64x64 networks and 10 epochs."""
    settings = {"n_steps": n_steps, "batch_size": batch_size, "n_epochs": 10}
    return Case(f"ppo_{key}", "ppo", lookback, n_envs, settings, target)


def sac(key: str, lookback: int, target: float, net: str = "small") -> Case:
    """Return a case of SAC with an update of 256 transitions after each step."""
    settings = {"batch_size": 256, "train_freq": 1, "learning_starts": 100, "buffer_size": 20_000}
    return Case(f"sac_{key}", "sac", lookback, 1, settings, target, net, stock_steps=200)


QUICK = (
    ppo("d33_b64", 1, 1, 2048, 64, 40.0),
    ppo("d153_b64", 5, 1, 2048, 64, 20.0),
    ppo("d903_b64", 30, 1, 2048, 64, 9.0),
    sac("d33_h64", 1, 7.0),
    sac("d153_h64", 5, 5.0),
    sac("d903_h64", 30, 2.5),
)
FULL = (
    *QUICK,
    ppo("d33_b64_8", 1, 8, 256, 64, 25.0),
    ppo("d153_b64_8", 5, 8, 256, 64, 15.0),
    ppo("d903_b64_8", 30, 8, 256, 64, 6.0),
    ppo("d153_b1024_64", 5, 64, 128, 1024, 2.5),
    ppo("d903_b1024_64", 30, 64, 128, 1024, 1.5),
    Case("a2c_d33_8", "a2c", 1, 8, {"n_steps": 5}),
    Case("a2c_d153_8", "a2c", 5, 8, {"n_steps": 5}),
    sac("d33_h256", 1, 1.7, "large"),
    sac("d153_h256", 5, 1.7, "large"),
    sac("d903_h256", 30, 1.7, "large"),
)


def tiny(case: Case) -> Case:
    """Return the case with rollouts that are over in a moment."""
    few = {"n_steps": 64, "n_epochs": 1} if find_algorithm(case.name).on_policy else {"batch_size": 16}
    return replace(case, hyperparameters=case.hyperparameters | few, stock_steps=1)


def make_market(lookback: int) -> Market:
    """Return a synthetic market whose features are cut, or repeated, to as many as the cases name."""
    data = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=BARS))
    market = build_market(data, FeatureSpec(lookback=lookback), SessionSpec())
    columns = np.resize(np.arange(market.features.shape[2]), FEATURES)
    features = np.ascontiguousarray(market.features[:, :, columns])
    names = tuple(f"{market.feature_names[column]}_{place}" for place, column in enumerate(columns))
    return replace(market, features=features, feature_names=names)


def world(case: Case) -> dict[str, Any]:
    """Return what both environments are built from."""
    return {
        "env": EnvSpec(action=action_of(case.name)),
        "cost": CostSpec(),
        "reward": RewardSpec(),
        "lookback": case.lookback,
    }


def make_compiled(case: Case, market: Market) -> BaseAlgorithm:
    """Return the compiled model on the native vector environment."""
    episodes = RandomEpisodes(case.lookback - 1, market.n_bars - 1, EPISODE)
    env = TradingVectorEnv(market, episodes, num_envs=case.n_envs, seed=0, **world(case))
    return build(case.spec, SB3VecEnv(env), local_engine(case.spec), seed=0)


def make_single(case: Case, market: Market, episodes: RandomEpisodes, seed: int) -> gymnasium.Env[Any, Any]:
    """Return one environment of the stock model."""
    return Monitor(TradingEnv(market, episodes, seed=seed, **world(case)))


def make_stock(case: Case, market: Market) -> BaseAlgorithm:
    """Return stable-baselines3's model on a DummyVecEnv."""
    episodes = RandomEpisodes(case.lookback - 1, market.n_bars - 1, EPISODE)
    makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [
        partial(make_single, case, market, episodes, seed) for seed in range(case.n_envs)
    ]
    model = find_algorithm(case.name).load()(
        "MlpPolicy",
        DummyVecEnv(makers),
        seed=0,
        device="cpu",
        policy_kwargs=policy_arguments(list(case.spec.widths), case.spec.activation),
        **case.hyperparameters,
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def speed(model: BaseAlgorithm, steps: int) -> float:
    """Return the steps per second of CPU time of going on for that many."""
    started = time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.process_time() - started)


def whole_rollouts(case: Case, wanted: int) -> int:
    """Return the smallest number of whole rollouts that has the wanted steps."""
    return -(-wanted // case.rollout) * case.rollout


def product_flops(case: Case) -> float:
    """Return the floating-point operations of the matrix products of training, for each step.

    A layer costs 2 * inputs * outputs forward, as much for its weights' gradient, and as much for its
    inputs', which the first layer does not need.
    """
    first, second = NETS[case.net]
    if case.name == "sac":
        return 2.0 * int(case.hyperparameters["batch_size"]) * sac_products(case.observation, first, second)
    forward_backward = 2 * (2 * case.observation * first + 3 * first * second + 3 * second) * 2
    return float(case.hyperparameters.get("n_epochs", 1) * forward_backward)


def sac_products(observation: int, first: int, second: int) -> int:
    """Return the multiplications of an update of SAC for one transition.

    The actor goes forward in both states and back in one; each of two critics forward in the next state, in
    the state, and with the actor's action, then back for itself, and for the actor without its weights.
    """
    actor, critic = first * second + 2 * second, first * second + second  # of the layers after the first
    return 3 * observation * first + 4 * actor + 2 * (4 * (observation + 1) * first + 6 * critic)


def product_speed() -> float:
    """Return the floating-point operations per second of a large matrix product here, best of many."""
    left, right = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    best = float("inf")
    for _ in range(40):
        started = time.process_time()
        np.matmul(left, right)
        best = min(best, time.process_time() - started)
    return 2 * 512**3 / best


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Return ratio, speeds and share of one case."""
    market = make_market(case.lookback)
    models = {"stock": make_stock(case, market), "compiled": make_compiled(case, market)}
    wanted = {"stock": case.stock_steps, "compiled": 4 * case.stock_steps}
    steps = {engine: whole_rollouts(case, count) for engine, count in wanted.items()}
    speeds: dict[str, list[float]] = {engine: [] for engine in models}
    for number in range(rounds + 1):  # the first one compiles, warms up and counts for nothing
        for engine, model in models.items():
            reached = speed(model, steps[engine])
            if number:
                speeds[engine].append(reached)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*reversed(speeds.values()), strict=True))
    share = statistics.median(speeds["compiled"]) * product_flops(case) / product_speed()
    return {
        "ratio": float(f"{ratio:.3g}"),
        "target": case.target,
        "steps_per_s": {engine: [round(each) for each in found] for engine, found in speeds.items()},
        "share_of_products": round(share, 2),
    }


def show(key: str, found: dict[str, Any]) -> None:
    """Print one row."""
    medians = [statistics.median(found["steps_per_s"][engine]) for engine in ("stock", "compiled")]
    target = "" if found["target"] is None else f"{found['target']:g} x"
    cells = f"{medians[0]:12,.0f}{medians[1]:12,.0f}{found['ratio']:10g} x{target:>10}"
    print(f"{key:16}{cells}{found['share_of_products']:10.0%}", flush=True)


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="three shapes each of PPO and SAC; under five minutes"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument("--only", default="", help="the cases whose key begins so")
    asked = parser.parse_args()
    limit_threads(1)
    started = time.perf_counter()
    cases = [
        case for case in (QUICK if asked.quick or asked.tiny else FULL) if case.key.startswith(asked.only)
    ]
    rounds = 1 if asked.tiny else 3 if asked.quick else 7
    print(f"{'case':16}{'stock/s':>12}{'compiled/s':>12}{'ratio':>12}{'target':>10}{'products':>10}")
    detail = {}
    for case in cases:
        if case.key.startswith(asked.only):
            detail[case.key] = measure(tiny(case) if asked.tiny else case, rounds)
            show(case.key, detail[case.key])
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    ratios = {key: found["ratio"] for key, found in detail.items()}
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"benchmark": "training", **ratios, "detail": detail, **machine, "seconds": seconds}))


if __name__ == "__main__":
    main()
