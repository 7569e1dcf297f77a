"""Walk-forward evaluation of 8 spans of 2,000 bars: fused, in lock step, one span after another.

One after another is what a user of stable-baselines3 has: `evaluate_policy` on a DummyVecEnv with a Monitor
around our environment, span by span (`dummy`). Beside it stands our own loop, span by span (`single`). Lock
step asks the policy for all spans at once and is for any model; fused is one compiled call. Ours record every
bar of the ledger as well. All play the same agents by turns on one thread, and count CPU time; a ratio is the
median over rounds of dummy's time over ours in the same round. It ends with one JSON line. `--quick` lets
dummy and single play one span, and counts it eight times.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402  (after the thread limits)
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from benchmarks.training import make_market  # noqa: E402
from envs.costs import CostSpec  # noqa: E402
from envs.episodes import SequentialEpisodes  # noqa: E402
from envs.rewards import RewardSpec  # noqa: E402
from envs.single import TradingEnv  # noqa: E402
from envs.spec import EnvSpec  # noqa: E402
from envs.types import Market  # noqa: E402
from optimize.agents.agent import Agent  # noqa: E402
from optimize.agents.registry import action_of  # noqa: E402
from optimize.agents.sb3.train import train  # noqa: E402
from optimize.agents.spec import AgentSpec  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.evaluate.rollout import rollout  # noqa: E402

SPANS, BARS, FIRST = 8, 2000, 100
LOOKBACKS = {"d33": 1, "d153": 5, "d903": 30}
TARGETS = {"lockstep": 7.0, "fused": 100.0}
CASES: tuple[tuple[str, str, str], ...] = (
    *(("ppo", "small", size) for size in LOOKBACKS),
    ("dqn", "small", "d33"),
    ("sac", "large", "d33"),
)
Span = tuple[int, int]


def world(name: str, lookback: int) -> dict[str, Any]:
    """Return what the environments are built from."""
    env = EnvSpec(action=action_of(name))
    return {"env": env, "cost": CostSpec(), "reward": RewardSpec(), "lookback": lookback}


def make_agent(name: str, net: str, market: Market, lookback: int) -> Agent:
    """Return an agent that was trained for a moment: what it does is not the question."""
    steps = 2048 if name in ("ppo", "a2c") else 256
    spec = AgentSpec(name=name, net=net, total_timesteps=steps, n_envs=1)
    return train(spec, market, (FIRST, market.n_bars - 1), seed=0, **world(name, lookback))


def play_dummy(agent: Agent, market: Market, spans: Sequence[Span], terms: dict[str, Any]) -> None:
    """Evaluate span after span as stable-baselines3 shows it."""
    for first, last in spans:
        single = Monitor(TradingEnv(market, SequentialEpisodes([first - 1], [last]), **terms))
        evaluate_policy(agent.policy, _alone(single), n_eval_episodes=1, deterministic=True)


def _alone(env: Monitor[Any, Any]) -> DummyVecEnv:
    return DummyVecEnv([lambda: env])


def play_single(agent: Agent, market: Market, spans: Sequence[Span], terms: dict[str, Any]) -> None:
    """Evaluate span after span by our own loop, asking the policy at every bar."""
    for span in spans:
        rollout(agent, market, [span], **terms)


def seconds_of(play: Callable[[], Any], least: float) -> float:
    """Return the CPU time of one call, from as many as take at least so long."""
    calls, started = 0, time.process_time()
    while not calls or time.process_time() - started < least:
        play()
        calls += 1
    return (time.process_time() - started) / calls


def measure(name: str, net: str, lookback: int, rounds: int, bars: int, share: int) -> dict[str, Any]:
    """Return the ratios of one agent; of what goes span by span a share of the spans stands for all."""
    market, terms = make_market(lookback), world(name, lookback)
    agent = make_agent(name, net, market, lookback)
    asked = replace(agent, spec=replace(agent.spec, engine="stock"))
    spans = [(FIRST + BARS * index, FIRST + BARS * index + bars - 1) for index in range(SPANS)]
    fewer = spans[: SPANS // share]
    contenders: dict[str, tuple[Callable[[], Any], int]] = {
        "dummy": (partial(play_dummy, agent, market, fewer, terms), share),
        "single": (partial(play_single, asked, market, fewer, terms), share),
        "lockstep": (partial(rollout, asked, market, spans, **terms), 1),
    }
    if agent.spec.engine == "compiled":
        contenders["fused"] = partial(rollout, agent, market, spans, **terms), 1
    seconds: dict[str, list[float]] = {key: [] for key in contenders}
    for number in range(rounds + 1):  # the first one compiles, warms up and counts for nothing
        for key, (play, scale) in contenders.items():
            taken = seconds_of(play, 0.05 if number else 0.0) * scale
            if number:
                seconds[key].append(taken)
    found: dict[str, Any] = {
        "seconds": {key: [float(f"{s:.3g}") for s in taken] for key, taken in seconds.items()}
    }
    for key in contenders.keys() - {"dummy"}:
        pairs = zip(seconds["dummy"], seconds[key], strict=True)
        found[key] = float(f"{statistics.median(theirs / ours for theirs, ours in pairs):.3g}")
    return found


def show(title: str, found: dict[str, Any]) -> None:
    """Print one row."""
    cells = [f"{1000 * statistics.median(taken):10,.1f}" for taken in found["seconds"].values()]
    ratios = [f"{key} {found[key]:g} x" for key in ("single", "lockstep", "fused") if key in found]
    print(f"{title:16}{''.join(cells):40}   {', '.join(ratios)}", flush=True)


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds of PPO; under a minute")
    parser.add_argument(
        "--tiny", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    asked = parser.parse_args()
    limit_threads(1)
    started = time.perf_counter()
    quick = asked.quick or asked.tiny
    rounds, bars = 1 if asked.tiny else 3 if quick else 7, 20 if asked.tiny else BARS
    heads = "".join(f"{key:>10}" for key in ("dummy", "single", "lockstep", "fused"))
    print(f"{'ms of CPU time':16}{heads}   ratios to dummy")
    detail: dict[str, dict[str, Any]] = {}
    for name, net, size in CASES[:1] if asked.tiny else CASES[:3] if quick else CASES:
        key = size if name == "ppo" else f"{name}_{net}_{size}"
        detail[key] = measure(name, net, LOOKBACKS[size], rounds, bars, 8 if quick else 1)
        show(f"{name} {net} {size}", detail[key])
    ratios = {f"{way}_{key}": found[way] for key, found in detail.items() for way in TARGETS if way in found}
    for way in TARGETS:  # the worst of all
        ratios[f"{way}_{SPANS}x{BARS}"] = min(found[way] for found in detail.values() if way in found)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    seconds = round(time.perf_counter() - started, 1)
    result = {"benchmark": "evaluation", **ratios, "targets": TARGETS, "detail": detail, **machine}
    print(json.dumps({**result, "seconds": seconds}))


if __name__ == "__main__":
    main()
