"""Walk-forward scores of compiled and of stock agents, tested for equivalence; ends with one JSON line.

Every seed trains both engines, from the same initial weights, window by window, and the scores, net of costs,
are paired. They are called equivalent where two one-sided t-tests at 5 % put the mean difference within a
margin that is stated beforehand: one standard error of the score itself (Lo 2002), which is what the luck of
a finite test span moves the score of any agent by. It is taken from the stock scores alone, never from a
difference. A policy that never trades scores 0.

The whole benchmark takes hours of CPU time, most of it stock SAC: every run is kept in `results/`, so that
the same command goes on where it was stopped. `--picture` draws scores and learning curves.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import sys  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this is a script

import numpy as np  # noqa: E402  (thread limits must be set before it is imported)

from benchmarks.equivalence import equivalence, round_to, sharpe_error  # noqa: E402
from benchmarks.learning_cases import FULL, QUICK, TINY, Case, data_of, spec_of  # noqa: E402
from benchmarks.learning_curves import draw  # noqa: E402
from optimize.agents.sb3.train import train  # noqa: E402
from optimize.agents.threads import limit_threads  # noqa: E402
from optimize.evaluate.summary import WindowResult  # noqa: E402
from optimize.study.spec import StudySpec  # noqa: E402
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window  # noqa: E402
from optimize.walkforward.run import WindowModel, conclude, evaluate_window, seed_of  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
ENGINES = ("compiled", "stock")
POINTS = 20  # of a learning curve


def run(spec: StudySpec, windowed: WindowedMarket, engine: str, seed: int) -> dict[str, Any]:
    """Train and judge every window; return the score, the mean learning curve and the CPU time."""
    spec = replace(spec, agent=replace(spec.agent, engine=engine))
    started = time.process_time()
    measured: list[WindowResult] = []
    curves = []
    for window in windowed.windows:
        reports: list[tuple[int, float]] = []

        def note(step: int, value: float, into: list[tuple[int, float]] = reports) -> bool:
            into.append((step, value))
            return False

        seen, market = fit_to_window(spec, windowed, window)
        agent = train(
            spec.agent,
            market,
            (window.train_first, window.train_last),
            env=spec.env,
            cost=spec.cost,
            reward=spec.reward,
            lookback=spec.feature.lookback,
            seed=seed_of([seed], window.index, 0),
            report=note,
        )
        measured.append(evaluate_window(spec, windowed, window, WindowModel(agent, seen))[0])
        curves.append(on_grid(reports, spec.agent.total_timesteps))
    score = conclude(spec, windowed, [measured], pruned_at=None).score
    return {
        "score": score.value,
        "reason": score.reason,
        "curve": [round_to(value, 4) for value in np.mean(curves, axis=0)],
        "cpu_s": round(time.process_time() - started, 1),
    }


def on_grid(reports: list[tuple[int, float]], steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the curve at POINTS equal distances; NaN before the first episode has ended."""
    ended = [(step, value) for step, value in reports if np.isfinite(value)]
    if not ended:
        return np.full(POINTS, np.nan)
    grid = steps * np.arange(1, POINTS + 1) / POINTS
    at, values = np.array(ended).T
    return np.where(grid < at[0], np.nan, np.interp(grid, at, values))


def identity(case: Case, engine: str, seed: int) -> str:
    """Return the key of one run; another size is another run."""
    return f"{case.key} windows={case.windows} steps={case.steps} {engine} seed={seed}"


def pending(cases: tuple[Case, ...], kept: dict[str, Any]) -> Iterator[tuple[Case, str, int]]:
    """Yield what is still to run: seed by seed over all cases, both engines in turn."""
    for seed in range(max(case.seeds for case in cases)):
        for case in cases:
            for engine in ENGINES:
                if seed < case.seeds and identity(case, engine, seed) not in kept:
                    yield case, engine, seed


def judge(case: Case, kept: dict[str, Any], windowed: WindowedMarket) -> dict[str, Any]:
    """Return what the pairs of scores come to."""
    seeds = [
        seed for seed in range(case.seeds) if all(identity(case, engine, seed) in kept for engine in ENGINES)
    ]
    runs = {engine: [kept[identity(case, engine, seed)] for seed in seeds] for engine in ENGINES}
    scores = {engine: np.array([each["score"] or 0.0 for each in found]) for engine, found in runs.items()}
    found: dict[str, Any] = {"seeds": len(seeds), "windows": case.windows, "steps": case.steps}
    if len(seeds) < 2:
        return found | {"equivalent": None}
    stock = float(scores["stock"].mean())
    margin = sharpe_error(stock, windowed.plan.test_sessions, windowed.market.sessions_per_year)
    return found | {
        "test_sessions": windowed.plan.test_sessions,
        "scores": {engine: [round_to(value, 4) for value in each] for engine, each in scores.items()},
        "mean": {engine: round_to(float(each.mean()), 4) for engine, each in scores.items()},
        "between_seeds": {engine: round_to(float(each.std(ddof=1)), 4) for engine, each in scores.items()},
        "cpu_s": {engine: round(sum(each["cpu_s"] for each in found), 1) for engine, found in runs.items()},
        **equivalence(scores["compiled"], scores["stock"], margin).plain(),
    }


def show(key: str, found: dict[str, Any]) -> None:
    """Print one row."""
    if found["equivalent"] is None:
        print(f"{key:16}{found['seeds']:6} pairs are too few")
        return
    means = "".join(f"{found['mean'][engine]:10.3f}" for engine in ENGINES)
    interval = f"{found['low']:+.3f} .. {found['high']:+.3f}"
    verdict = "equivalent" if found["equivalent"] else "not shown"
    tests = f"{found['margin']:9.3f}{found['p']:9.4f}{found['power']:7.2f}"
    print(f"{key:16}{found['pairs']:6}{means}{interval:>22}{tests}  {verdict}")


def main() -> None:
    """Run what is missing and judge what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short trainings, nothing kept; two minutes")
    parser.add_argument("--tiny", action="store_true", help="only show that it runs; the scores mean nothing")
    parser.add_argument("--only", default="", help="the cases whose key begins so")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that were kept")
    parser.add_argument("--picture", type=Path, help="where to draw scores and learning curves")
    asked = parser.parse_args()
    limit_threads(1)
    started = time.monotonic()
    small = asked.quick or asked.tiny
    cases = TINY if asked.tiny else QUICK if asked.quick else FULL
    sources = {case.market: data_of(case.market) for case in cases}
    absent = sorted(
        {f"{market} (set WALKFORGE_MARKET_DATA)" for market, data in sources.items() if data is None}
    )
    cases = tuple(case for case in cases if sources[case.market] and case.key.startswith(asked.only))
    store = None if small else RESULTS / "learning_runs.jsonl"
    if store is not None and asked.fresh:
        store.unlink(missing_ok=True)
    kept = read(store)
    specs = {case: spec_of(case, data) for case in cases if (data := sources[case.market])}
    markets = {case: build_windowed_market(spec, None) for case, spec in specs.items()}
    for case, engine, seed in pending(cases, kept):
        if time.monotonic() - started > 60 * asked.minutes:
            break
        name = identity(case, engine, seed)
        kept[name] = run(specs[case], markets[case], engine, seed)
        print(f"{name}: score {kept[name]['score']} ({kept[name]['cpu_s']} s of CPU time)", flush=True)
        if store is not None:
            keep(store, name, kept[name])
    detail = {case.key: judge(case, kept, markets[case]) for case in cases}
    heads = f"{'pairs':>6}{'compiled':>10}{'stock':>10}{'90 % of difference':>22}"
    print(f"{'case':16}{heads}{'margin':>9}{'p':>9}{'power':>7}")
    for key, found in detail.items():
        show(key, found)
    if asked.picture is not None:
        curves = {
            case.key: {
                engine: [
                    kept[name]["curve"]
                    for seed in range(case.seeds)
                    if (name := identity(case, engine, seed)) in kept
                ]
                for engine in ENGINES
            }
            for case in cases
        }
        draw(asked.picture, detail, curves)
    reached = all(found["equivalent"] for found in detail.values())
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    seconds = round(time.monotonic() - started, 1)
    result = {"benchmark": "learning", "cases": detail, "absent": absent, "reached": reached, **machine}
    print(json.dumps(result | {"seconds": seconds}))


def read(store: Path | None) -> dict[str, Any]:
    """Return the kept runs by their identity."""
    if store is None or not store.is_file():
        return {}
    rows = [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]
    return {row.pop("run"): row for row in rows}


def keep(store: Path, name: str, found: dict[str, Any]) -> None:
    """Add a run to the kept ones."""
    store.parent.mkdir(exist_ok=True)
    with store.open("a", encoding="utf-8") as stream:
        print(json.dumps({"run": name} | found), file=stream)


if __name__ == "__main__":
    main()
