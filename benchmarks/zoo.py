"""Trials per minute of rl-baselines3-zoo on our environment, beside our study; ends with one JSON line.

Both search the learning rate of PPO (64x64, 8 environments, 20,480 steps) at random on one window of the
embedded EURUSD bars, one process and one thread, on SQLite; a trial is one training and one evaluation of the
test span. The zoo has the market's features scaled already and our physics, one by one in its DummyVecEnv;
ours also scales, measures, stores models, returns and trades. `walkforge_stock` is our study with
agent.engine=stock. Counted from the start of the first trial to the end of the last, by turns; a ratio is the
median over rounds. `--peers` first makes the zoo's virtual environment.
"""

import argparse
import json
import os
import pickle
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

from benchmarks.environments import ONE_THREAD, REPOSITORY, Absent, make_venv, python_of
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.scaling import fit_scaler, scale_market
from optimize.data.spec import DataSpec
from optimize.evaluate.windows import WindowSpec, place_windows, plan_windows, purge_bars

PEER, ENV = "zoo", "Walkforge-v0"
STEPS, LOOKBACK = 20_480, 8
SETTINGS = {"n_steps": 256, "batch_size": 256, "n_epochs": 10}
OURS = (
    "name=zoo", "preflight=false", "data=embedded", "cost=default", "window.count=1", "pruner=none",
    "sampler=random", "~space.agent", "+space.agent.learning_rate={low:1e-4,high:1e-3,log:true}",
    f"feature.lookback={LOOKBACK}", "agent.n_envs=8",
    *(f"agent.{key}={value}" for key, value in SETTINGS.items()),
)  # fmt: skip
SPAN = "SELECT COUNT(*), MIN({}), MAX({}) FROM {} WHERE state IN ('COMPLETE', 'PRUNED')"
OUR_SPAN = SPAN.format("started_at", "finished_at", "wf_runs")
THEIR_SPAN = SPAN.format("datetime_start", "datetime_complete", "trials")


def hand_over(folder: Path) -> None:
    """Write the market, scaled as our study scales it, its spans, and what the zoo calls hyperparameters."""
    market = build_market(DataSpec(), FeatureSpec(lookback=LOOKBACK), SessionSpec())
    spec = WindowSpec(count=1)
    plan = plan_windows(spec, market.session_date)
    (window,) = place_windows(plan, market, purge_bars=purge_bars("open", 1), lookback=LOOKBACK, spec=spec)
    scaler = fit_scaler(market, window.train_first, window.train_last + 1)
    handed = {
        "market": scale_market(market, scaler, 0, window.test_last + 1),
        "spans": (window.train_first, window.train_last, window.test_first, window.test_last),
        "lookback": LOOKBACK,
    }
    (folder / "zoo.pickle").write_bytes(pickle.dumps(handed))
    settings = {
        "policy": "MlpPolicy",
        "n_timesteps": STEPS,
        "n_envs": 8,
        "policy_kwargs": "dict(net_arch=[64, 64])",
    }
    words = [f"  {key}: {json.dumps(value)}" for key, value in (settings | SETTINGS).items()]
    (folder / "zoo.yml").write_text("\n".join([f"{ENV}:", *words, ""]))


def run_zoo(folder: Path, trials: int) -> float:
    """Let the zoo optimize; return its trials per minute."""
    arguments = {
        "--algo": "ppo", "--env": ENV, "--gym-packages": "benchmarks.peers.zoo",
        "--conf-file": folder / "zoo.yml", "--n-timesteps": STEPS, "--n-trials": trials, "--n-jobs": 1,
        "--sampler": "random", "--pruner": "none",
        "--n-evaluations": 1, "--eval-episodes": 1, "--eval-env-kwargs": "train:False", "--num-threads": 1,
        "--storage": f"sqlite:///{folder / 'zoo.db'}", "--study-name": "zoo", "--log-folder": folder / "logs",
        "--device": "cpu", "--verbose": 0,
    }  # fmt: skip
    flat = [str(word) for pair in arguments.items() for word in pair]
    command = [
        str(python_of(PEER)),
        "-m",
        "rl_zoo3.train",
        "--optimize-hyperparameters",
        "--no-optim-plots",
        *flat,
    ]
    run(command, REPOSITORY, {"WALKFORGE_ZOO": str(folder)})
    return rate(folder / "zoo.db", THEIR_SPAN, trials)


def run_ours(engine: str, folder: Path, trials: int) -> float:
    """Run our study; return its trials per minute."""
    sizes = [
        f"n_trials={trials}",
        f"agent.total_timesteps={STEPS}",
        f"agent.engine={engine}",
        "worker.count=1",
    ]
    run([sys.executable, "-m", "optimize", "study", *OURS, *sizes], folder, {"PYTHONPATH": str(REPOSITORY)})
    return rate(folder / "databases" / "walkforge.db", OUR_SPAN, trials)


def run(command: list[str], folder: Path, variables: dict[str, str]) -> None:
    """Run a command and show its words only where it fails."""
    environment = os.environ | ONE_THREAD | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise Absent(said[-1])


def rate(database: Path, query: str, wanted: int) -> float:
    """Return trials per minute from the start of the first to the end of the last."""
    with closing(sqlite3.connect(database)) as conn:
        done, first, last = conn.execute(query).fetchone()
    if done != wanted:
        raise Absent(f"{done} of {wanted} trials are complete")
    return 60 * float(done) / (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def main() -> None:
    """Measure as asked and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="first make the virtual environment of the zoo")
    parser.add_argument("--quick", action="store_true", help="one round of four trials")
    asked = parser.parse_args()
    if asked.peers:
        make_venv(PEER)
    rounds, trials = (1, 4) if asked.quick else (3, 12)
    started = time.perf_counter()
    contenders: dict[str, Callable[[Path, int], float]] = {
        "walkforge": partial(run_ours, "auto"),
        "zoo": run_zoo,
        "walkforge_stock": partial(run_ours, "stock"),
    }
    rates: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    for number in range(rounds):
        for name, contender in contenders.items():
            if name in absent:
                continue
            try:
                with tempfile.TemporaryDirectory() as place:
                    hand_over(Path(place))
                    rates.setdefault(name, []).append(contender(Path(place), trials))
            except Absent as reason:
                absent[name] = str(reason)
                rates.pop(name, None)
                print(f"{name}: absent: {reason}", flush=True)
            else:
                print(f"round {number + 1} of {rounds}, {name}: {rates[name][-1]:.1f} a minute", flush=True)
    result: dict[str, Any] = {
        "benchmark": "zoo",
        "trials_per_minute": {name: [round(each, 2) for each in found] for name, found in rates.items()},
        "ratios": {
            name: float(
                f"{statistics.median(a / b for a, b in zip(rates['walkforge'], found, strict=True)):.3g}"
            )
            for name, found in rates.items()
            if name != "walkforge"
        },
        "absent": absent,
        "trials": trials,
    }
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps(result | machine | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
