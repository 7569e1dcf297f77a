"""How often a study finds an edge that is there, and one that is not; ends with one JSON line.

A table of trials is recorded once on each market and kept in `results/discovery/`; a run that was stopped
has recorded about as many markets of each kind, and goes on. Every rule then reads the same tables: take the
best trial; the selection walk-forward must be above zero; the bootstrap maximum must have p below 5 %; and
the last two with a retraining on a fresh seed that is above zero. The winner's returns in the holdout, which
no rule has seen, show what it earns. Searches are replayed on the tables of markets with an edge.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from envs.types import FloatArray
from optimize.evaluate.luck import bootstrap_maximum
from optimize.evaluate.selection import SelectionRule, selection_walk_forward

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # this is a script

from benchmarks.discovery_markets import FULL, QUICK, YEAR, Table, sharpe  # noqa: E402
from benchmarks.discovery_records import Market, record_missing, recorded  # noqa: E402
from benchmarks.discovery_searches import BUDGETS, SEARCHES, replay  # noqa: E402
from benchmarks.discovery_table import draw  # noqa: E402

RAW = FOLDER / "results" / "discovery"
LEVEL = 0.05
RULES = ("best trial", "selection", "luck", "selection, luck, finalists")
SAMPLER_SEEDS = 10  # of each search on each market


def judged(table: Table) -> dict[str, Any]:
    """Return the verdict of every rule, and the winner's scores: in search, on fresh seeds, held out."""
    last = table.window.max()
    seen, held = table.window < last, table.window == last
    search = table.returns[:, 0][:, seen]
    scores = np.array([sharpe(each) for each in search])
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
    fresh = float(np.mean([sharpe(each[seen]) for each in table.returns[best, 1:]]))
    two = earned > 0 and luck.p_value < LEVEL
    return {
        "best trial": bool(scores[best] > 0),
        "selection": bool(earned > 0),
        "luck": bool(luck.p_value < LEVEL),
        "selection, luck, finalists": bool(two and fresh > 0),
        "search": float(scores[best]),
        "fresh": fresh,
        "held_out": float(np.mean([sharpe(each[held]) for each in table.returns[best]])),
        "sessions": int(seen.sum()),
    }


def rule_rows(verdicts: Sequence[tuple[Market, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row for each length and edge: discoveries by rule, and the winner's Sharpe ratios."""
    rows = []
    for bars, edge in sorted({(market.bars, market.edge) for market, _ in verdicts}):
        own = [found for market, found in verdicts if (market.bars, market.edge) == (bars, edge)]
        scores = {key: [each[key] for each in own] for key in ("search", "fresh", "held_out")}
        rows.append(
            {
                "edge": edge,
                "bars": bars,
                "sessions": own[0]["sessions"],
                "markets": len(own),
                "discoveries": {rule: sum(each[rule] for each in own) for rule in RULES},
                **{key: round(float(np.mean(found)), 2) for key, found in scores.items()},
                "errors": {key: error_of(np.array(found)) for key, found in scores.items()},
            }
        )
    return rows


def error_of(values: FloatArray) -> float | None:
    """Return the standard error of a mean over markets, None for a single one."""
    return round(float(values.std(ddof=1) / np.sqrt(len(values))), 3) if len(values) > 1 else None


def search_rows(found: FloatArray) -> list[dict[str, Any]]:
    """Return for each search its means at each budget, and the lead of the default over it with its error.

    found: (markets, searches, 2, budgets), regret and held-out Sharpe ratio, means over sampler seeds.
    """
    default = next(place for place, search in enumerate(SEARCHES) if search.is_default)
    rows = []
    for place, search in enumerate(SEARCHES):
        regret, held = found[:, place].transpose(1, 2, 0)
        leads = regret - found[:, default, 0].T
        rows.append(
            {
                "search": search.name,
                "regret": [mean_of(each) for each in regret],
                "held_out": [mean_of(each) for each in held],
                "lead": [mean_of(each) for each in leads],
                "lead_error": [error_of(each[~np.isnan(each)]) for each in leads],
            }
        )
    return rows


def mean_of(values: FloatArray) -> float | None:
    """Return a mean; None where a market has no value, as a search has no point yet."""
    return None if np.isnan(values).any() else round(float(values.mean()), 3)


def main() -> None:
    """Record the tables that are missing, then replay every rule and search on those that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short markets, a grid of 8 points")
    parser.add_argument(
        "--replay", action="store_true", help="record nothing: replay the tables that are stored"
    )
    parser.add_argument("--workers", type=int, default=1, help="markets that are recorded at a time")
    asked = parser.parse_args()
    size = QUICK if asked.quick else FULL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started, verdicts, searched, cpu_s = time.perf_counter(), [], [], 0.0
    if not asked.replay:
        record_missing(size, RAW, asked.workers)
    for market, table in recorded(size, RAW):
        verdicts.append((market, judged(table)))
        cpu_s += float(table.seconds.sum()) * table.returns.shape[1]
        if market.edge > 0:
            seeds = range(SAMPLER_SEEDS)
            searched.append(
                [np.mean([replay(table, each, seed) for seed in seeds], axis=0) for each in SEARCHES]
            )
    result = {
        "points": size.points,
        "seeds": size.seeds,
        "steps": size.steps,
        "windows": size.windows,
        "rules": rule_rows(verdicts),
        "budgets": BUDGETS,
        "markets_searched": len(searched),
        "searches": search_rows(np.array(searched)),
        "cpu_s": round(cpu_s, 1),
    }
    draw(result)
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
