"""Samplers: each proposal depends only on the study seed, the trial number and the earlier trials."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optimize.errors import BadInputError
from optimize.search.parse import Value, stored_value
from optimize.search.space import Choices, SearchSpace, grid
from optimize.search.spec import SamplerSpec


class PerTrialSampler(BaseSampler):
    """Give each trial a fresh sampler seeded by (study seed, trial number): a resume changes nothing."""

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, joint: IntersectionSearchSpace | None = None
    ) -> None:
        self._make = make
        self._seed = seed
        self._joint = joint  # parameters that all trials share; None: each trial's sampler finds them
        self._running: dict[int, BaseSampler] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the trial's own sampler."""
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the trial's sampler draws jointly."""
        if self._joint is not None:  # it reads new trials only; a fresh sampler would read all of them
            return {name: d for name, d in self._joint.calculate(study).items() if not d.single()}
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the jointly drawn parameters."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return one parameter drawn by itself."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Drop the trial's own sampler: samplers learn from the stored trials, not from this call."""
        self._running.pop(trial.number, None)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._running:
            state = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]
            self._running[trial.number] = self._make(int(state))
        return self._running[trial.number]


class _IndependentSampler(BaseSampler):
    """A sampler whose parameters need no joint draw."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no joint parameters."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no joint parameters."""
        return {}


class SobolSampler(_IndependentSampler):
    """Give trial n the n-th point of one scrambled Sobol sequence, one coordinate a parameter of the space.

    The point depends on nothing but seed and trial number, so parallel workers, a resume and conditional
    parameters neither repeat nor skip one (Sobol 1967; scrambling: Matousek 1998).
    """

    def __init__(self, seed: int, paths: Sequence[str]) -> None:
        self._seed = seed
        self._coordinate = {path: index for index, path in enumerate(paths)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the parameter at its coordinate of the trial's point."""
        return value_at(param_distribution, float(self.point(trial.number)[self._coordinate[param_name]]))

    def point(self, number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return point number of the sequence, (P,) in [0, 1)."""
        from scipy.stats.qmc import Sobol  # slow to import, and only this sampler needs it

        sequence = Sobol(len(self._coordinate), scramble=True, rng=self._seed)
        if number > 0:
            sequence.fast_forward(number)
        return np.asarray(sequence.random(1)[0], dtype=np.float64)


class BalancedGridSampler(_IndependentSampler):
    """Give each trial the combination with the fewest counted trials, the first one on ties.

    COMPLETE, PRUNED and RUNNING trials count, FAIL does not. Balance is exact where a trial is asked for and
    its parameters are suggested under the study lock.
    """

    def __init__(self, combinations: Sequence[Mapping[str, Value]]) -> None:
        self._combinations = [
            {path: stored_value(value) for path, value in each.items()} for each in combinations
        ]
        self._assigned: dict[int, int] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Assign the trial its combination."""
        self._assigned[trial.number] = self._choose(study, trial)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the parameter of the trial's combination."""
        if trial.number not in self._assigned:
            self.before_trial(study, trial)
        return self._combinations[self._assigned[trial.number]][param_name]

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the assignment, which the stored parameters now contain."""
        self._assigned.pop(trial.number, None)

    def _choose(self, study: Study, trial: FrozenTrial) -> int:
        """Return the index of the least tried combination that agrees with the trial's parameters so far."""
        counts = [0] * len(self._combinations)
        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number or other.state == TrialState.FAIL:
                continue
            index = self._assigned.get(other.number, self._index_of(other))
            if index is not None:
                counts[index] += 1
        known = trial.params.items()
        open_indices = [i for i, combination in enumerate(self._combinations) if known <= combination.items()]
        return min(open_indices or range(len(counts)), key=counts.__getitem__)

    def _index_of(self, trial: FrozenTrial) -> int | None:
        return next((i for i, each in enumerate(self._combinations) if each == trial.params), None)


def value_at(distribution: BaseDistribution, unit: float) -> Any:
    """Return the value of a distribution at unit in [0, 1): equal shares of [0, 1) have equal probability."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(unit * len(distribution.choices))]
    if isinstance(distribution, IntDistribution):
        if distribution.log:
            value = round(_log_between(distribution.low - 0.5, distribution.high + 0.5, unit))
            return min(max(value, distribution.low), distribution.high)
        count = (distribution.high - distribution.low) // distribution.step + 1
        return distribution.low + int(unit * count) * distribution.step
    if not isinstance(distribution, FloatDistribution):
        raise TypeError(f"no quasi-random values for {distribution!r}")
    low, high = distribution.low, distribution.high
    if distribution.log:
        return min(max(_log_between(low, high, unit), low), high)
    if distribution.step is not None:
        return min(low + int(unit * (round((high - low) / distribution.step) + 1)) * distribution.step, high)
    return low + unit * (high - low)


def make_sampler(spec: SamplerSpec, seed: int, space: SearchSpace) -> BaseSampler:
    """Return the sampler of one study; one that cannot search the space is refused."""
    check_sampler(spec, space)
    if spec.name == "grid":
        return BalancedGridSampler(grid(space))
    if spec.name == "qmc":
        return SobolSampler(seed, [parameter.path for parameter in space.parameters])
    if spec.name == "random":
        return PerTrialSampler(_random, seed)
    if spec.name == "cmaes":
        return PerTrialSampler(partial(_cmaes, spec), seed, IntersectionSearchSpace())
    jointly = spec.multivariate is not False and not spec.group
    joint = IntersectionSearchSpace(include_pruned=True) if jointly else None
    return PerTrialSampler(partial(_tpe, spec), seed, joint)


def check_sampler(spec: SamplerSpec, space: SearchSpace) -> None:
    """Refuse a sampler that cannot search the space: a grid needs choices, CMA-ES needs ranges."""
    if spec.name == "grid":
        ranges = [p.path for p in space.parameters if not isinstance(p.domain, Choices)]
        _refuse("grid tries the combinations of lists", "ranges", ranges, "agent.gamma=[0.5,0.9]")
    if spec.name == "cmaes":
        lists = [p.path for p in space.parameters if isinstance(p.domain, Choices) and p.domain.values[1:]]
        example = "agent.learning_rate={low: 0.0001, high: 0.02, log: true}"
        _refuse("cmaes searches ranges alone", "lists", lists, example)


def _refuse(what: str, kind: str, paths: Sequence[str], example: str) -> None:
    if paths:
        raise BadInputError(
            f"sampler={what}, and the space has {kind} for {', '.join(paths)}: leave each out, as in "
            f"space.{paths[0]}=null, write a space of your own, such as '~space' '+space.{example}', or set "
            "sampler=tpe"
        )


def grid_words(spec: SamplerSpec, space: SearchSpace, n_trials: int) -> str | None:
    """Return how often n_trials tries each point of a grid; None for exactly once, or without a grid."""
    points = len(grid(space)) if spec.name == "grid" else n_trials
    times, more = divmod(n_trials, points)
    if points == n_trials:
        return None
    if not times:
        return f"sampler=grid: n_trials={n_trials} tries the first {n_trials} of the space's {points} points"
    often = f"{times} or {times + 1}" if more else f"{times}"
    return (
        f"sampler=grid: n_trials={n_trials} tries each of the space's {points} points {often} times, "
        "with other seeds each time; score.repeats=3 would judge a point by three seeds at once"
    )


def _cmaes(spec: SamplerSpec, seed: int) -> BaseSampler:
    return CmaEsSampler(seed=seed, n_startup_trials=spec.n_startup_trials, warn_independent_sampling=False)


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _tpe(spec: SamplerSpec, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        # The configuration asks for `group`, which is experimental in Optuna 5.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            seed=seed,
            n_startup_trials=spec.n_startup_trials,
            multivariate=spec.multivariate,
            group=spec.group,
        )


def _log_between(low: float, high: float, unit: float) -> float:
    return math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
