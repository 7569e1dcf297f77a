"""How often a study finds an edge that is there, and one that is not; ends with one JSON line.

A table of trials is recorded once on each market and kept in `results/discovery/`, so that a run that was
stopped goes on. Every rule then reads the same tables: take the best trial; the selection walk-forward must
be above zero; the bootstrap maximum must have p below 5 %; and the last two with a retraining on fresh seeds
whose mean is above zero. The winner's returns in the holdout, which no rule has seen, show what it earns.
Search efficiency replays samplers on the tables: regret of the point that is ranked first, by CPU time.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from envs.types import FloatArray
from optimize.evaluate.luck import bootstrap_maximum
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.selection import SelectionRule, selection_walk_forward
from optimize.search.pruners import make_pruner
from optimize.search.spec import PrunerSpec

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks.discovery_markets import FULL, QUICK, YEAR, Size, Table, make_bars, record  # noqa: E402
from benchmarks.discovery_table import draw  # noqa: E402

RAW = FOLDER / "results" / "discovery"
LEVEL = 0.05
RULES = ("best trial", "selection", "luck", "selection, luck, finalists")
BUDGETS = (0.25, 0.5, 0.75, 1.0)  # of the CPU time of the whole grid
SEARCHES = ("random", "tpe", "tpe and median pruner")


def recorded(size: Size, folder: Path) -> Iterator[tuple[float, int, Table]]:
    """Yield edge, bars and table of every market; record those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for bars in size.bars:
        for market in range(size.markets):
            for edge in size.edges:
                name = f"{edge:g}_{bars}_{market}_{size.points}x{size.seeds}x{size.windows}x{size.steps}.npz"
                path = folder / name
                if not path.exists():
                    _record(path, edge, bars, market, size)
                    print(f"recorded {name}", flush=True)
                with np.load(path) as stored:
                    yield edge, bars, Table(**{key: stored[key].astype(np.float64) for key in stored.files})


def _record(path: Path, edge: float, bars: int, market: int, size: Size) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "bars.parquet"
        make_bars(edge, bars, market).to_parquet(source)
        table = record(source, size)
        partial = Path(scratch) / "table.npz"
        np.savez_compressed(partial, **{key: each.astype(np.float32) for key, each in vars(table).items()})
        path.write_bytes(partial.read_bytes())


def judged(table: Table) -> dict[str, Any]:
    """Return the verdict of every rule, and the winner's scores: in search, on fresh seeds, held out."""
    last = table.window.max()
    seen, held = table.window < last, table.window == last
    search = table.returns[:, 0][:, seen]
    scores = np.array([_sharpe(each) for each in search])
    best = int(np.argmax(scores))
    selection = selection_walk_forward(
        returns=table.returns[:, :1][:, :, seen],
        window=table.window[seen].astype(np.int64),
        trades=table.trades[:, :1, : int(last)],
        parameter_set=[str(point) for point in range(len(scores))],
        rule=SelectionRule("joined", 0.0, 0.0, 0, 0.0),
        sessions_per_year=YEAR,
    )
    earned = -np.inf if selection is None or selection.sharpe is None else selection.sharpe
    luck = bootstrap_maximum(returns=search.T, n_bootstraps=500)
    fresh = float(np.mean([_sharpe(each[seen]) for each in table.returns[best, 1:]]))
    two = earned > 0 and luck.p_value < LEVEL
    return {
        "best trial": bool(scores[best] > 0),
        "selection": bool(earned > 0),
        "luck": bool(luck.p_value < LEVEL),
        "selection, luck, finalists": bool(two and fresh > 0),
        "search": float(scores[best]),
        "fresh": fresh,
        "held_out": float(np.mean([_sharpe(each[held]) for each in table.returns[best]])),
        "sessions": int(seen.sum()),
    }


def _sharpe(returns: FloatArray) -> float:
    found = sharpe_ratio(returns, YEAR)
    return found if np.isfinite(found) else 0.0


def searched(table: Table, name: str, seed: int) -> list[float]:
    """Return the regret of a search at each budget of CPU time.

    The regret is the held-out mean over seeds of the grid's best point less that of the point ranked first.
    """
    last = int(table.window.max())
    held = np.array([np.mean([_sharpe(r[table.window == last]) for r in each]) for each in table.returns])
    whole = table.seconds[:, :last].sum()
    sampler = (
        optuna.samplers.RandomSampler(seed) if name == "random" else optuna.samplers.TPESampler(seed=seed)
    )
    spec = PrunerSpec("median" if "pruner" in name else "none", n_startup_trials=3)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=make_pruner(spec, seed))
    spent, ranked, found = 0.0, -1, [float("nan")] * len(BUDGETS)
    best = -np.inf
    while spent < whole * BUDGETS[-1]:
        trial = study.ask()
        point = trial.suggest_int("point", 0, len(held) - 1)
        value, pruned = 0.0, False
        for window in range(last):
            spent += table.seconds[point, window]
            value = _sharpe(table.returns[point, 0][table.window <= window])
            trial.report(value, window)
            if window < last - 1 and trial.should_prune():
                pruned = True
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
            best, ranked = max((best, ranked), (value, point))
        for index, budget in enumerate(BUDGETS):
            if spent <= whole * budget and ranked >= 0:
                found[index] = float(held.max() - held[ranked])
    return found


def rule_rows(verdicts: list[tuple[float, int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row for each edge and length: discoveries by rule, and the winner's Sharpe ratios."""
    rows = []
    for edge, bars in sorted({(edge, bars) for edge, bars, _ in verdicts}):
        own = [found for e, b, found in verdicts if (e, b) == (edge, bars)]
        mean: Callable[[str], float] = lambda key, own=own: float(np.mean([each[key] for each in own]))  # type: ignore[misc] # noqa: E731
        rows.append(
            {
                "edge": edge,
                "bars": bars,
                "sessions": own[0]["sessions"],
                "markets": len(own),
                "discoveries": {rule: sum(each[rule] for each in own) for rule in RULES},
                **{key: round(mean(key), 2) for key in ("search", "fresh", "held_out")},
            }
        )
    return rows


def main() -> None:
    """Record the tables that are missing, then replay every rule and search on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short markets, a grid of 8 points")
    size = QUICK if parser.parse_args().quick else FULL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started, verdicts, regrets = time.perf_counter(), [], {name: [] for name in SEARCHES}  # type: ignore[var-annotated]
    for edge, bars, table in recorded(size, RAW):
        verdicts.append((edge, bars, judged(table)))
        if edge > 0:
            for name in SEARCHES:
                regrets[name].extend(searched(table, name, seed) for seed in range(5))
    result = {
        "points": size.points,
        "seeds": size.seeds,
        "steps": size.steps,
        "rules": rule_rows(verdicts),
        "budgets": BUDGETS,
        "regret": {name: np.round(np.nanmean(found, axis=0), 2).tolist() for name, found in regrets.items()},
        "cpu_s": round(sum(float(t.seconds.sum()) * size.seeds for _, _, t in recorded(size, RAW)), 1),
    }
    draw(result)
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
