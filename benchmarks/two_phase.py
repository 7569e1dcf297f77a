"""What the first phase decides where the truth is known; ends with one JSON line.

1. `random_walk`: whole timeframe phases, each on a random walk of its own at zero cost, where every
   combination is equally good: how often the set drops the first one, and how often it keeps all.
2. `simulated`: phases drawn, trial by trial, from the session returns that these stored: the first
   combination is better by `edge` and seeds move every trial by `spread` (annualised Sharpe ratios). Beside
   it what the test would do if it took the trained trials for all there is (`sessions_alone`).
3. `known_timeframe`: both phases on markets whose best timeframe is 4h.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import FloatArray
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import DatabaseSpec
from optimize.evaluate import confidence_set
from optimize.evaluate.confidence_set import ConfidenceSet, model_confidence_set
from optimize.evaluate.precision_estimate import SeedEffect
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.windows import WindowSpec
from optimize.results.runs import finished_runs
from optimize.results.timeframe_verdict import stored_evidence
from optimize.search.spec import PhaseSpec, PrunerSpec, TimeframePhaseSpec
from optimize.study.context import enroll, open_study
from optimize.study.launch.run import run_study
from optimize.study.phases.run import compare_combinations, excess_returns, timeframe_study
from optimize.study.spec import StudySpec, resolve
from optimize.study.workers.process import run_claims
from optimize.walkforward.markets import build_windowed_market

DAYS = 365.25  # sessions of a year: the synthetic markets never close
LEVEL = 0.9
PPO = {"n_steps": 32, "batch_size": 64, "n_epochs": 4, "learning_rate": 3e-3, "gamma": 0.5}
LONG = 1000  # sessions, some years
BLOCK = 5  # sessions drawn in one piece
BLIND = SeedEffect(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Size:
    """How much to run."""

    walks: int
    bars: int
    timesteps: int
    trials: int  # of one combination
    draws: int  # seeds of each simulated case
    bootstraps: int
    markets: int  # with a known timeframe


FULL = Size(walks=50, bars=2880, timesteps=512, trials=2, draws=50, bootstraps=1000, markets=3)
QUICK = Size(walks=3, bars=1440, timesteps=256, trials=2, draws=10, bootstraps=200, markets=1)


def spec_of(folder: Path, size: Size, seed: int, kind: str) -> StudySpec:
    """Return a study in two phases on a synthetic market, at zero cost."""
    timeframes, lookbacks = (["1h", "4h"], [2, 4]) if kind == "random_walk" else (["1h", "2h", "4h"], [2])
    bars, timesteps, trials = size.bars, size.timesteps, size.trials
    if kind == "known_timeframe":
        bars, timesteps, trials = 4320, 8192, 4
    count = len(timeframes) * len(lookbacks)
    grid = TimeframePhaseSpec(trials * count, timeframes, lookbacks, LEVEL, size.bootstraps)
    spec = StudySpec(
        name=f"{kind}_{seed}",
        seed=seed,
        n_trials=2,
        preflight=False,
        output_dir=str(folder / "studies"),
        data=DataSpec("synthetic", synthetic=SyntheticSpec(kind, bars=bars, seed=seed, period=4)),
        feature=FeatureSpec(lookback=2, indicators=["returns"]),
        env=EnvSpec(rebalance_band=0.0),
        cost=CostSpec(commission_bps=0.0, slippage_bps=0.0, borrow_rate=0.0, short_rate=0.0),
        agent=AgentSpec(total_timesteps=timesteps, n_envs=4, net="tiny", hyperparameters=PPO),
        space={"agent": {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}},
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=20),
        score=ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0),
        pruner=PrunerSpec(name="none"),
        database=DatabaseSpec(url=f"sqlite:///{folder / 'two_phase.db'}"),
        phase=PhaseSpec("two", grid),
    )
    return resolve(spec)


def walk(folder: Path, size: Size, seed: int) -> tuple[tuple[bool, ...], list[FloatArray]]:
    """Run one timeframe phase on a random walk; return what it kept and its session returns."""
    spec = spec_of(folder, size, seed, "random_walk")
    context = open_study(timeframe_study(spec))
    try:
        enroll(context, build_windowed_market(context.spec, context.cache_dir))
        run_claims(context, 0, lambda: False)
        evidence = compare_combinations(context, "")
        with context.engine.connect() as conn:
            runs = [run for run in finished_runs(conn, context.spec.name) if run.score is not None]
        returns = excess_returns(context, runs, DAYS).by_run
    finally:
        context.close()
    groups: dict[str, list[FloatArray]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.parameters, sort_keys=True), []).append(returns[run.run_uuid])
    kept = tuple(each.kept for each in evidence.combinations)
    return kept, [np.concatenate(groups[key]) for key in sorted(groups)]


def draw(
    stored: Sequence[FloatArray], seed: int, *, edge: float, spread: float, sessions: int
) -> list[FloatArray]:
    """Return one simulated phase: trials drawn with replacement, sessions in blocks, the same for all.

    Each stored trial is freed of its own mean, which on a random walk at zero cost is luck.
    """
    rng = np.random.default_rng([seed, int(10 * edge), int(10 * spread)])
    held = stored[0].shape[1]
    starts = rng.integers(held, size=sessions // BLOCK + 1)
    order = (starts[:, None] + np.arange(BLOCK)).ravel()[:sessions] % held
    drawn = []
    for index, trials in enumerate(stored):
        scaled = (trials - trials.mean(axis=1, keepdims=True)) / trials.std(axis=1, keepdims=True)
        chosen = scaled[rng.integers(len(trials), size=len(trials))][:, order]
        skill = edge * (index == 0) + spread * rng.standard_normal((len(trials), 1))
        drawn.append(chosen + skill / np.sqrt(DAYS))
    return drawn


def simulate(
    pool: Sequence[Sequence[FloatArray]], size: Size, edge: float, spread: float, sessions: int | None = None
) -> dict[str, Any]:
    """Judge many simulated phases, with and without what other seeds would have brought."""
    full, alone = [], []
    length = sessions or pool[0][0].shape[1]
    for seed in range(size.draws):
        drawn = draw(pool[seed % len(pool)], seed, edge=edge, spread=spread, sessions=length)
        full.append(judged(drawn, size, seed))
        with patch.object(confidence_set, "seed_effect", lambda scaled, size: BLIND):
            alone.append(judged(drawn, size, seed))
    case = {"sessions": length, "edge": edge, "spread": spread}
    return {**case, **shares(full), "sessions_alone": shares(alone)}


def judged(returns: Sequence[FloatArray], size: Size, seed: int) -> tuple[bool, ...]:
    """Return which combinations the set keeps."""
    found: ConfidenceSet = model_confidence_set(returns, level=LEVEL, bootstraps=size.bootstraps, seed=seed)
    return found.kept


def shares(kept: Sequence[tuple[bool, ...]]) -> dict[str, float]:
    """Return how often the first combination was dropped, how often all were kept, and how many were."""
    count = len(kept)
    return {
        "best_dropped": round(sum(not each[0] for each in kept) / count, 3),
        "all_kept": round(sum(all(each) for each in kept) / count, 3),
        "mean_kept": round(sum(map(sum, kept)) / count, 2),
    }


def known_timeframe(folder: Path, size: Size, seed: int) -> list[str]:
    """Run both phases where 4h is the best timeframe; return what the first one kept."""
    spec = spec_of(folder, size, seed, "known_timeframe")
    run_study(spec, Console(quiet=True))
    context = open_study(timeframe_study(spec))
    try:
        with context.engine.connect() as conn:
            evidence = stored_evidence(conn, context.spec.name)
    finally:
        context.close()
    return [] if evidence is None else list(evidence.timeframes)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few small studies")
    size = QUICK if parser.parse_args().quick else FULL
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place, inside(Path(place)):
        folder = Path(place)
        kept, pool = [], []
        for seed in range(size.walks):
            found, returns = walk(folder, size, seed)
            kept.append(found)
            pool.append(returns)
            print(f"random walk {seed}: kept {sum(found)} of {len(found)}", flush=True)
        cases = [
            (edge, spread, sessions)
            for sessions in (None, LONG)
            for spread in (0.0, 1.0, 3.0)
            for edge in (0.0, 2.0, 5.0, 10.0)
        ]
        simulated = [simulate(pool, size, *case) for case in cases]
        for each in simulated:
            print(each, flush=True)
        known = [known_timeframe(folder, size, seed) for seed in range(size.markets)]
        print(f"known timeframe 4h: kept {known}", flush=True)
    result = {
        "random_walk": {"phases": len(kept), "sessions": pool[0][0].shape[1], **shares(kept)},
        "simulated": simulated,
        "known_timeframe": known,
        "found": all(each == ["4h"] for each in known),
        "seconds": round(time.perf_counter() - started, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
