"""Optuna's TPE, which reads each finished trial once and not at every proposal.

Bergstra et al. (2011) as in Optuna: the proposals are its own, to the last bit. Optuna goes through all
trials for each of them, which takes most of the time of a proposal as soon as there are a thousand.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

Space = tuple[tuple[str, BaseDistribution], ...]
Parameters = Callable[[FrozenTrial], Mapping[str, Any]]


class Past:
    """Trials in one space of parameters, by their number: what TPE asks about each."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._ended = np.zeros(0, np.bool_)  # it was read and will not change
        self._ranked = np.zeros(0, np.bool_)  # complete and feasible, so that its value counts
        self._whole = np.zeros(0, np.bool_)  # it has all parameters of the space
        self._value = np.zeros(0)
        self._columns: dict[str, NDArray[Any]] = {
            name: np.zeros(0, np.int64 if isinstance(distribution, CategoricalDistribution) else np.float64)
            for name, distribution in space
        }

    def split(
        self, trials: Sequence[FrozenTrial], n_below: int, parameters: Parameters
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] | None:
        """Return the parameters of the n_below best trials and of the others, in Optuna's own numbers.

        None where fewer have a value that counts, so that the others must be ranked by more than values.
        """
        numbers = np.fromiter((trial.number for trial in trials), np.int64, len(trials))
        self._grow(int(numbers.max(initial=-1)) + 1)
        for place in np.flatnonzero(~self._ended[numbers]).tolist():
            self._read(trials[place], parameters(trials[place]))
        ranked = numbers[self._ranked[numbers]]
        if not 0 < n_below <= len(ranked):
            return None
        best_first = ranked[np.argsort(-self._value[ranked], kind="stable")]
        below = np.zeros(len(self._ended), np.bool_)
        below[best_first[:n_below]] = True
        whole = np.sort(numbers[self._whole[numbers]])
        return self._rows(whole[below[whole]]), self._rows(whole[~below[whole]])

    def _rows(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {name: column[numbers] for name, column in self._columns.items()}

    def _grow(self, size: int) -> None:
        if size <= len(self._ended):
            return
        size = max(size, 2 * len(self._ended))
        self._ended, self._ranked = _longer(self._ended, size), _longer(self._ranked, size)
        self._whole, self._value = _longer(self._whole, size), _longer(self._value, size)
        self._columns = {name: _longer(column, size) for name, column in self._columns.items()}

    def _read(self, trial: FrozenTrial, parameters: Mapping[str, Any]) -> None:
        number = trial.number
        self._ended[number] = trial.state.is_finished()
        if trial.state == TrialState.COMPLETE and not any(v > 0 for v in trial.constraints.values()):
            self._ranked[number], self._value[number] = True, trial.value
        self._whole[number] = all(name in parameters for name, _ in self._space)
        if self._whole[number]:
            for name, distribution in self._space:
                self._columns[name][number] = distribution.to_internal_repr(parameters[name])


class Memory:
    """The past in every space that a study has been searched in; one for one study, to be maximised."""

    def __init__(self) -> None:
        self._pasts: dict[Space, Past] = {}

    def past(self, search_space: dict[str, BaseDistribution]) -> Past:
        """Return what is known of finished trials in a space."""
        space = tuple(search_space.items())
        return self._pasts.setdefault(space, Past(space))


class RememberingTPESampler(TPESampler):
    """TPE that shares a memory with the samplers of the study's other trials."""

    def __init__(self, memory: Memory, **settings: Any) -> None:
        super().__init__(**settings)
        self._memory = memory

    def _sample(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if study._is_multi_objective() or study.direction != StudyDirection.MAXIMIZE:
            return super()._sample(study, trial, search_space)
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        states = (*ended, TrialState.RUNNING) if self._constant_liar else ended
        trials = study._get_trials(deepcopy=False, states=states, use_cache=not self._constant_liar)
        others = [other for other in trials if other.number != trial.number]
        n_below = default_gamma(sum(other.state != TrialState.RUNNING for other in others))
        parameters = functools.partial(self._get_params, study=study)
        parts = self._memory.past(search_space).split(others, n_below, parameters)
        if parts is None:
            return super()._sample(study, trial, search_space)
        below, above = (
            self._parzen_estimator_cls(part, search_space, self._parzen_estimator_parameters)
            for part in parts
        )
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: each.to_external_repr(best[name]) for name, each in search_space.items()}


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    longer = np.zeros(size, array.dtype)
    longer[: len(array)] = array
    return longer
