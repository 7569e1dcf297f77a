"""Searches that are replayed on the recorded tables of the discovery benchmark.

A trial draws a point of the grid and costs its recorded CPU time, window by window. A point that is drawn
again is a run of another recorded seed, and its score is the lower median of its runs, as in a study. The
point that is ranked first is judged by two means over its seeds: the score of the windows that were searched,
less that of the best point (regret), and the Sharpe ratio of the last window, which no search has seen.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from benchmarks.discovery_markets import POINTS, Table, sharpe
from envs.types import FloatArray
from optimize.evaluate.confidence_set import model_confidence_set
from optimize.evaluate.median import lower_median
from optimize.search.parse import Value, parse_space
from optimize.search.pruners import make_pruner
from optimize.search.samplers import make_sampler
from optimize.search.space import suggest
from optimize.search.spec import PrunerSpec, SamplerSpec, TimeframePhaseSpec

BUDGETS = (0.25, 0.5, 1.0, 2.0)  # times the CPU time of one run of every point
KEYS = {"learning_rate": "agent.learning_rate", "gamma": "agent.gamma", "lookback": "feature.lookback"}
FIRST_PHASE_TRIALS = 4  # of each lookback
BOOTSTRAPS = 300  # of the comparison of lookbacks


@dataclass(frozen=True)
class Search:
    """One way to search: sampler and pruner with the defaults of a study, repeats, and phases."""

    name: str
    sampler: str
    pruner: str = "none"
    repeats: int = 1
    phases: int = 1

    @property
    def is_default(self) -> bool:
        """Return whether this is the search of a study by default."""
        return self == Search(self.name, SamplerSpec().name, PrunerSpec().name)


SEARCHES = (
    Search("random", "random"),
    Search("TPE", "tpe"),
    Search("TPE, median pruner (the default)", "tpe", "median"),
    Search("the default with two repeats", "tpe", "median", repeats=2),
    Search("the default after a phase for the lookback", "tpe", "median", phases=2),
)


@dataclass
class Replay:
    """A search under way on one table, whose points are those of the grid, or every second one."""

    table: Table
    last: int = field(init=False)  # the window that is held out
    spent: float = 0.0
    runs: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))  # scores of each point
    picks: list[tuple[float, int]] = field(default_factory=list)  # (CPU seconds, best point from then on)

    def __post_init__(self) -> None:
        self.last = int(self.table.window.max())

    @property
    def points(self) -> list[dict[str, float]]:
        """Return the parameter sets of the table."""
        count = len(self.table.returns)
        return POINTS[:: len(POINTS) // count][:count]

    def run(self, search: Search, seed: int, seconds: float, lookbacks: Sequence[float]) -> None:
        """Search until so much CPU time is spent."""
        space = parse_space(_tree([each for each in self.points if each["lookback"] in lookbacks]))
        study = optuna.create_study(
            direction="maximize",
            sampler=make_sampler(SamplerSpec(search.sampler), seed, space),
            pruner=make_pruner(PrunerSpec(search.pruner), seed),
        )
        while self.spent < seconds:
            trial = study.ask()
            drawn = suggest(space, trial)
            wanted: dict[str, Value] = {name: drawn[key] for name, key in KEYS.items()}
            place = next(place for place, point in enumerate(self.points) if point == wanted)
            value = self._play(trial, place, search.repeats)
            study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)

    def _play(self, trial: Trial, place: int, repeats: int) -> float | None:
        """Run a trial at a point; return its score, None where it is pruned."""
        first = len(self.runs[place]) * repeats
        seeds = [(first + each) % self.table.returns.shape[1] for each in range(repeats)]
        value = 0.0
        for window in range(self.last):
            self.spent += float(self.table.seconds[place, window]) * repeats
            seen = self.table.window <= window
            value = float(np.median([sharpe(self.table.returns[place, seed][seen]) for seed in seeds]))
            trial.report(value, window)
            if window < self.last - 1 and trial.should_prune():
                return None
        self.runs[place].append(value)
        scores = {point: lower_median(own) for point, own in self.runs.items() if own}
        self.picks.append((self.spent, max(scores, key=lambda point: scores[point] or 0.0)))
        return value

    def first_phase(self, seed: int) -> list[float]:
        """Run each lookback with points drawn at random; return those not separable from the best."""
        rng, seen = np.random.default_rng(seed), self.table.window < self.last
        lookbacks = sorted({each["lookback"] for each in self.points})
        returns = []
        for lookback in lookbacks:
            places = [place for place, each in enumerate(self.points) if each["lookback"] == lookback]
            chosen = rng.choice(places, FIRST_PHASE_TRIALS, replace=False)
            self.spent += float(self.table.seconds[chosen, : self.last].sum())
            returns.append(self.table.returns[chosen, 0][:, seen])
        level = TimeframePhaseSpec().confidence
        kept = model_confidence_set(returns, level=level, bootstraps=BOOTSTRAPS, seed=seed).kept
        return [lookback for lookback, stays in zip(lookbacks, kept, strict=True) if stays]


def _tree(points: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the search space that holds these parameter sets, each parameter a list."""
    values = {name: sorted({each[name] for each in points}) for name in KEYS}
    agent = {"learning_rate": values["learning_rate"], "gamma": values["gamma"]}
    return {"agent": agent, "feature": {"lookback": values["lookback"]}}


def replay(table: Table, search: Search, seed: int) -> FloatArray:
    """Return regret and held-out Sharpe ratio (2, budgets) of the point ranked first; NaN: there is none."""
    running = Replay(table)
    seen = table.window < running.last
    score, held = (
        np.array([[sharpe(each[span]) for each in runs] for runs in table.returns]).mean(axis=1)
        for span in (seen, ~seen)
    )
    whole = float(table.seconds[:, : running.last].sum())
    lookbacks = sorted({each["lookback"] for each in running.points})
    if search.phases == 2:
        lookbacks = running.first_phase(seed)
    running.run(search, seed, whole * BUDGETS[-1], lookbacks)
    found = np.full((2, len(BUDGETS)), np.nan)
    for spent, point in running.picks:
        later = np.array(BUDGETS) * whole >= spent
        found[:, later] = [[score.max() - score[point]], [held[point]]]
    return found
