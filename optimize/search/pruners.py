"""Pruners: stop a trial early by comparing it with other trials at the same step, never with their best.

In batch mode a trial is compared with trials of earlier batches only, so that no decision depends on timing.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from optuna.pruners import BasePruner, NopPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optimize.search.spec import PrunerSpec

ENDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
REACHED = (*ENDED_STATES, TrialState.RUNNING)
BATCH = "batch"  # user attribute of a trial in batch mode: the first number and the size of its batch
EXEMPTION_STREAM = 0x6578656D  # keeps this draw apart from every other use of (seed, trial number)


def comparable_trials(
    study: Study, trial: FrozenTrial, states: tuple[TrialState, ...] = ENDED_STATES
) -> list[FrozenTrial]:
    """Return the trials in these states that a trial is compared with."""
    others = study.get_trials(deepcopy=False, states=states)
    first = trial.user_attrs.get(BATCH, [math.inf])[0]
    return [other for other in others if other.number != trial.number and other.number < first]


def values_at_step(trials: Sequence[FrozenTrial], step: int) -> list[float]:
    """Return the finite values that trials reported at step."""
    reported = (trial.intermediate_values.get(step) for trial in trials)
    return [value for value in reported if value is not None and math.isfinite(value)]


def is_worse_than_median(value: float, others: Sequence[float], *, maximize: bool) -> bool:
    """Return whether value lies strictly on the bad side of the median of others."""
    median = statistics.median(others)
    return value < median if maximize else value > median


def is_out_of_better_half(value: float, others: Sequence[float], *, maximize: bool) -> bool:
    """Return whether so many of others are better that value is not in the better half of all of them."""
    better = sum(other > value if maximize else other < value for other in others)
    return better >= max(1, (len(others) + 1) // 2)


def is_rung(windows: int, first: int) -> bool:
    """Return whether windows is first, 2 * first, 4 * first, ..."""
    doublings, rest = divmod(windows, first)
    return rest == 0 and doublings & (doublings - 1) == 0 and doublings > 0


def is_exempt(seed: int, number: int, share: float) -> bool:
    """Return whether trial number belongs to the seeded share of a study that is never pruned."""
    state = np.random.SeedSequence([seed, number, EXEMPTION_STREAM]).generate_state(1)[0]
    return bool(state < share * 2**32)


class SameStepMedianPruner(BasePruner):
    """Prune a trial whose value at a step is worse than the median of the others at that same step."""

    def __init__(self, n_startup_trials: int = 8, n_warmup_steps: int = 1) -> None:
        self.n_startup_trials = n_startup_trials
        self.n_warmup_steps = n_warmup_steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should stop after its last reported step."""
        step = trial.last_step
        if step is None or step < self.n_warmup_steps:
            return False
        value = trial.intermediate_values[step]
        if value is None or math.isnan(value):
            return False
        others = values_at_step(comparable_trials(study, trial), step)
        if len(others) < self.n_startup_trials:
            return False
        return is_worse_than_median(value, others, maximize=study.direction == StudyDirection.MAXIMIZE)


class SameStepHalvingPruner(BasePruner):
    """Keep the better half of the trials at each rung: n_warmup_steps + 1 windows, doubled each time.

    Asynchronous successive halving (Li et al. 2018, reduction factor 2) on values of the same step. It notes
    nothing in the study, so that a verdict can be asked for again after a lost run.
    """

    def __init__(self, n_warmup_steps: int = 1) -> None:
        self.n_warmup_steps = n_warmup_steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should stop after its last reported step."""
        step = trial.last_step
        if step is None or not is_rung(step + 1, self.n_warmup_steps + 1):
            return False
        value = trial.intermediate_values[step]
        if value is None or math.isnan(value):
            return False
        others = values_at_step(comparable_trials(study, trial, REACHED), step)
        return is_out_of_better_half(value, others, maximize=study.direction == StudyDirection.MAXIMIZE)


class ExemptingPruner(BasePruner):
    """Spare some trials from another pruner: a seeded share, and all until n_startup_trials have finished.

    The share keeps the spread of full scores honest for the statistics of luck.
    """

    def __init__(self, inner: BasePruner, seed: int, exempt_share: float, n_startup_trials: int) -> None:
        self.inner = inner
        self.seed = seed
        self.exempt_share = exempt_share
        self.n_startup_trials = n_startup_trials

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should stop after its last reported step."""
        if is_exempt(self.seed, trial.number, self.exempt_share):
            return False
        return (
            self.inner.prune(study, trial) and len(comparable_trials(study, trial)) >= self.n_startup_trials
        )


def make_pruner(spec: PrunerSpec, seed: int) -> BasePruner:
    """Return the pruner of a study."""
    if spec.name == "none":
        return NopPruner()
    inner: BasePruner
    if spec.name == "median":
        inner = SameStepMedianPruner(spec.n_startup_trials, spec.n_warmup_steps)
    else:
        inner = SameStepHalvingPruner(spec.n_warmup_steps)
    return ExemptingPruner(inner, seed, spec.exempt_share, spec.n_startup_trials)
