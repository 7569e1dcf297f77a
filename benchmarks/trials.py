"""Whole trials: four windows, each 5,120 steps of PPO (64x64) and an evaluation on 16,000 bars.

Ours is what a worker does: fit the scaler, train in compiled kernels, evaluate net and at zero cost, measure,
and store agent, scaler, returns and trades; without the database. Stock is what a user of stable-baselines3
does on our environment in a DummyVecEnv with a Monitor: train, save, `evaluate_policy`; its features come
scaled. Both take turns on one thread, and CPU time is counted. A ratio is the median over rounds of stock's
time over ours in the same round. It ends with one JSON line. `--quick` lets stock do one of the four windows,
and counts it four times.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

import numpy as np  # noqa: E402  (thread limits must be set before numpy is imported)
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from benchmarks.training import FEATURES  # noqa: E402
from envs.episodes import Episodes, RandomEpisodes, SequentialEpisodes  # noqa: E402
from envs.single import TradingEnv  # noqa: E402
from envs.types import Market  # noqa: E402
from optimize.agents.sb3.build import policy_arguments  # noqa: E402
from optimize.agents.spec import AgentSpec  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.data.features.spec import FeatureSpec  # noqa: E402
from optimize.data.spec import DataSpec, SyntheticSpec  # noqa: E402
from optimize.evaluate.summary import WindowResult  # noqa: E402
from optimize.evaluate.trades import Trades  # noqa: E402
from optimize.evaluate.windows import Window, WindowSpec  # noqa: E402
from optimize.study.spec import StudySpec, resolve  # noqa: E402
from optimize.walkforward.files import window_folder, write_window  # noqa: E402
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window  # noqa: E402
from optimize.walkforward.run import WindowModel, run_trial  # noqa: E402

LOOKBACKS = {"d33": 1, "d153": 5, "d903": 30}
TARGETS = {"d33": 50.0, "d153": 40.0, "d903": 15.0}
WINDOWS, STEPS, TEST_BARS = 4, 5120, 16_000
SETTINGS = {"n_steps": 1024, "batch_size": 64, "n_epochs": 10}


def make_spec(lookback: int, tiny: bool) -> StudySpec:
    """Return a study whose trials are as large as the benchmark says."""
    bars, steps = (3000, 64) if tiny else (8 * TEST_BARS + 2000, STEPS)
    hyperparameters = SETTINGS | ({"n_steps": 32, "batch_size": 32} if tiny else {})
    return resolve(
        StudySpec(
            name="trials",
            data=DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=bars)),
            feature=FeatureSpec(lookback=lookback),
            agent=AgentSpec(name="ppo", total_timesteps=steps, n_envs=1, hyperparameters=hyperparameters),
            window=WindowSpec(count=WINDOWS, min_train_bars=100),
        )
    )


def make_market(spec: StudySpec) -> WindowedMarket:
    """Return the market, its features cut or repeated to as many as the sizes name, and its windows."""
    windowed = build_windowed_market(spec, None)
    names = windowed.market.feature_names
    columns = np.resize(np.arange(len(names)), FEATURES)
    features = np.ascontiguousarray(windowed.market.features[:, :, columns])
    market = replace(windowed.market, features=features, feature_names=tuple(names[each] for each in columns))
    return replace(windowed, market=market)


def play_ours(spec: StudySpec, windowed: WindowedMarket, folder: Path) -> None:
    """Run a trial as a worker does."""

    def keep(
        window: Window, repeat: int, trained: WindowModel, measured: WindowResult, trades: Trades
    ) -> None:
        sessions = windowed.market.session_date[slice(*window.test_sessions)]
        write_window(window_folder(folder, window.index, repeat), sessions, trained, measured, trades)

    run_trial(spec, windowed, [0, 0], keep=keep, report=lambda step, value: False)


def play_stock(spec: StudySpec, windows: list[tuple[Window, Market]], folder: Path) -> None:
    """Train, save and evaluate window by window with stable-baselines3 alone."""
    terms: dict[str, Any] = {"env": spec.env, "cost": spec.cost, "reward": spec.reward}
    terms["lookback"] = spec.feature.lookback

    def make_env(market: Market, episodes: Episodes) -> DummyVecEnv:
        return DummyVecEnv([lambda: Monitor(TradingEnv(market, episodes, **terms))])

    for window, market in windows:
        first = max(window.train_first, spec.feature.lookback - 1)
        train_env = make_env(market, RandomEpisodes(first, window.train_last, spec.env.episode_bars))
        test_env = make_env(market, SequentialEpisodes([window.test_first - 1], [window.test_last]))
        layers = policy_arguments(list(spec.agent.widths), spec.agent.activation)
        settings = spec.agent.hyperparameters
        model = PPO("MlpPolicy", train_env, seed=0, device="cpu", policy_kwargs=layers, **settings)
        model.learn(spec.agent.total_timesteps)
        model.save(folder / f"stock_{window.index}.zip")
        evaluate_policy(model, test_env, n_eval_episodes=1, deterministic=True)


def measure(lookback: int, rounds: int, share: int, tiny: bool, folder: Path) -> dict[str, Any]:
    """Return ratio and CPU seconds of one size."""
    spec = make_spec(lookback, tiny)
    windowed = make_market(spec)
    few = windowed.windows[: WINDOWS // share]
    scaled = [(window, fit_to_window(spec, windowed, window)[1]) for window in few]
    ours: Callable[[], None] = partial(play_ours, spec, windowed, folder)
    stock: Callable[[], None] = partial(play_stock, spec, scaled, folder)
    ours()  # compiles, and counts for nothing
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(rounds):
        for key, play, scale in (("stock", stock, share), ("ours", ours, 1)):
            started = time.process_time()
            play()
            seconds[key].append((time.process_time() - started) * scale)
    pairs = zip(seconds["stock"], seconds["ours"], strict=True)
    return {
        "ratio": float(f"{statistics.median(theirs / mine for theirs, mine in pairs):.3g}"),
        "seconds": {key: [float(f"{each:.3g}") for each in taken] for key, taken in seconds.items()},
        "trials_per_minute": {
            key: float(f"{60 / statistics.median(taken):.3g}") for key, taken in seconds.items()
        },
        "test_bars": [window.test_last - window.test_first + 1 for window in windowed.windows],
    }


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds, stock does one window of four")
    parser.add_argument(
        "--tiny", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument("--only", default="", help="the size whose key is so, such as d33")
    asked = parser.parse_args()
    limit_threads(1)
    started = time.perf_counter()
    rounds, share = (1, 4) if asked.tiny else (2, 4) if asked.quick else (5, 1)
    detail = {}
    print(f"{'size':8}{'stock/min':>12}{'ours/min':>12}{'ratio':>10}{'target':>10}")
    for key, lookback in LOOKBACKS.items():
        if asked.only in ("", key):
            with tempfile.TemporaryDirectory() as folder:
                detail[key] = measure(lookback, rounds, share, asked.tiny, Path(folder))
            rates = detail[key]["trials_per_minute"]
            cells = f"{rates['stock']:12,.1f}{rates['ours']:12,.1f}{detail[key]['ratio']:8g} x"
            print(f"{key:8}{cells}{TARGETS[key]:8g} x", flush=True)
    ratios = {f"trial_{key}": found["ratio"] for key, found in detail.items()}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    result = {"benchmark": "trials", **ratios, "targets": TARGETS, "detail": detail, **machine}
    print(json.dumps({**result, "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
