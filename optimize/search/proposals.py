"""What the next trial tries: drawn on a copy of the study in memory, then stored whole by one write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optimize.search.space import Choices, Range, SearchSpace, suggest
from optimize.search.storage import insert_running

FIXED = "fixed_params"  # system attribute of a trial that somebody queued, by Optuna
STEP_TOLERANCE = 1e-8


class Proposals:
    """A copy of a stored study, to be maximised, that follows it and on which a sampler draws.

    A process that is killed while it draws leaves no half of a trial, and whoever draws next draws the same.
    """

    def __init__(self, space: SearchSpace, make: Callable[[], BaseSampler]) -> None:
        self._space = space
        self._make = make
        self._copy = self._empty()
        self._open: set[int] = set()  # trials of the copy that had not ended when they were looked at

    def draw(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """Return what the trial after these is to try; the same trials always give the same."""
        self._follow(trials)
        trial = self._copy.ask()
        suggest(self._space, trial)
        drawn = self._copy.get_trials(deepcopy=False)[trial.number]
        # Its values are all drawn: a sampler that remembers its open trials can forget this one.
        self._copy.sampler.after_trial(self._copy, drawn, TrialState.FAIL, None)
        self._open.add(trial.number)
        return drawn

    def _empty(self) -> Study:
        return optuna.create_study(storage=InMemoryStorage(), sampler=self._make(), direction="maximize")

    def _follow(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring the copy up to what is stored; start anew where a trial is not what it was taken for."""
        known = self._copy.get_trials(deepcopy=False)
        others = any(known[n].params != trials[n].params for n in self._open if n < len(trials))
        if len(known) > len(trials) or others:
            self._copy, self._open, known = self._empty(), set(), []
        for number in [number for number in sorted(self._open) if trials[number].state.is_finished()]:
            self._end(known[number], trials[number])
            self._open.remove(number)
        for trial in trials[len(known) :]:
            if trial.state.is_finished():
                self._copy.add_trial(trial)
            else:
                self._copy.add_trial(running(trial))
                self._open.add(trial.number)

    def _end(self, known: FrozenTrial, stored: FrozenTrial) -> None:
        storage, trial_id = self._copy._storage, known._trial_id
        for key, attribute in stored.system_attrs.items():
            storage.set_trial_system_attr(trial_id, key, attribute)
        for step, value in stored.intermediate_values.items():
            storage.set_trial_intermediate_value(trial_id, step, value)
        storage.set_trial_state_values(trial_id, stored.state, stored.values)


def why_unfit(space: SearchSpace, trial: FrozenTrial) -> str | None:
    """Return why the values that somebody queued a trial with are not of the space, None where they are."""
    known = {parameter.path: parameter for parameter in space.parameters}
    for name, value in trial.system_attrs.get(FIXED, {}).items():
        if name not in known:
            return f"{name} is no parameter of the space"
        domain = known[name].domain
        if isinstance(domain, Choices):
            if not any(value == choice and type(value) is type(choice) for choice in domain.values):
                return f"{name}={value!r} is none of the choices {list(domain.values)}"
        elif not _within(domain, value):
            step = f" in steps of {domain.step}" if domain.step else ""
            kind = "integer" if domain.integer else "number"
            return f"{name}={value!r} is no {kind} from {domain.low} to {domain.high}{step}"
    return None


def _within(domain: Range, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if not domain.low <= value <= domain.high or (domain.integer and value != int(value)):
        return False
    steps = (value - domain.low) / (domain.step or (1 if domain.integer else value - domain.low or 1))
    return domain.log or abs(steps - round(steps)) < STEP_TOLERANCE


def running(drawn: FrozenTrial, attributes: Mapping[str, Any] | None = None) -> FrozenTrial:
    """Return a trial that runs with these very parameters, ready to be stored."""
    return create_trial(
        state=TrialState.RUNNING,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
        user_attrs=dict(attributes or {}),
        intermediate_values=drawn.intermediate_values,
    )


def store(
    storage: RDBStorage,
    study: Study,
    drawn: FrozenTrial,
    attributes: Mapping[str, Any],
    cap: int | None = None,
) -> FrozenTrial:
    """Store a drawn trial as running, with user attributes, in one transaction; return what is stored.

    Raises LockLostError where the study is no longer what it was drawn on, or already at its cap.
    """
    stored = running(drawn, attributes)
    stored.number = drawn.number
    stored._trial_id = insert_running(storage, study._study_id, stored, cap)
    return stored
