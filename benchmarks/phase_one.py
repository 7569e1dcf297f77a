"""Level and power of the statistic of phase 1, simulated; ends with one JSON line.

Each phase is drawn from heavy-tailed session returns on one market: the first combination is better by `gap`,
and seeds move every trial by `spread` (annualised Sharpe ratios, 252 sessions a year); `autocorrelation` is
that of single sessions. A gap of 0 measures the level, how often all equal combinations are kept; another
one the power, how often the best is kept alone or among at most three.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from envs.types import FloatArray
from optimize.evaluate.confidence_set import model_confidence_set

YEAR = 252
LEVEL = 0.9
BOOTSTRAPS = 300
FEW = 3  # kept, beside the best at most two
DRAWS, QUICK_DRAWS = 400, 20


@dataclass(frozen=True)
class Case:
    """One kind of phase."""

    combinations: int = 20
    trials: int = 5  # of each combination
    spread: float = 1.0
    autocorrelation: float = 0.0
    gap: float = 0.0
    sessions: int = 1000


CASES = (
    Case(),
    Case(gap=4.0),
    Case(trials=2),
    Case(trials=2, gap=4.0),
    Case(spread=3.0),
    Case(autocorrelation=0.3),
    Case(autocorrelation=0.3, gap=4.0),
    Case(combinations=12, trials=2, spread=3.0),
    Case(combinations=4),
    Case(combinations=4, trials=2),
)


def draw(case: Case, seed: int) -> list[FloatArray]:
    """Return the session returns (trials, sessions) of each combination, the first one the best."""
    shape = (case.combinations, case.trials)
    rng = np.random.default_rng([seed, case.combinations, case.trials])
    market = rng.standard_t(5, case.sessions) * rng.normal(0.5, 0.7, (*shape, 1))
    own = rng.standard_t(5, (*shape, case.sessions))
    common = rng.standard_t(5, (case.combinations, 1, case.sessions))  # of a combination's trials
    returns = market + own + common
    for session in range(1, case.sessions):
        returns[..., session] += case.autocorrelation * returns[..., session - 1]
    returns /= returns.std(axis=2, keepdims=True)
    returns += case.spread * rng.standard_normal((*shape, 1)) / np.sqrt(YEAR)
    returns[0] += case.gap / np.sqrt(YEAR)
    return list(0.01 * returns)


def kept(case: Case, seed: int) -> tuple[bool, ...]:
    """Return which combinations of one phase the set keeps."""
    found = model_confidence_set(draw(case, seed), level=LEVEL, bootstraps=BOOTSTRAPS, seed=seed)
    return found.kept


def summed_up(case: Case, found: Sequence[tuple[bool, ...]]) -> dict[str, Any]:
    """Return the shares of the phases of one case."""
    count = len(found)
    shares = {
        "all_kept": sum(map(all, found)),
        "best_kept": sum(each[0] for each in found),
        "best_among_few": sum(each[0] and sum(each) <= FEW for each in found),
    }
    return {
        **asdict(case),
        "phases": count,
        **{name: round(number / count, 3) for name, number in shares.items()},
        "mean_kept": round(sum(map(sum, found)) / count, 2),
    }


def main() -> None:
    """Simulate every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DRAWS} phases of each case")
    parser.add_argument("--draws", type=int, default=None, help=f"phases of each case, else {DRAWS}")
    asked = parser.parse_args()
    draws = asked.draws or (QUICK_DRAWS if asked.quick else DRAWS)
    started, cases = time.perf_counter(), []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for case in CASES:
            found = list(pool.map(partial(kept, case), range(draws), chunksize=5))
            cases.append(summed_up(case, found))
            print(cases[-1], flush=True)
    result = {"level": LEVEL, "bootstraps": BOOTSTRAPS, "cases": cases}
    print(json.dumps(result | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
