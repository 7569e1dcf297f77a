"""Parameters of the next trial: drawn on a copy of the study in memory, then stored by one write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from optimize.errors import BadInputError
from optimize.search.parse import stored_value
from optimize.search.space import Choices, Range, SearchSpace, suggest

FIXED = "fixed_params"  # system attribute in which `Study.enqueue_trial` keeps the values of a queued trial
STEP_TOLERANCE = 1e-8


class Proposals:
    """A copy of a stored study in memory, to be maximised, on which a sampler draws.

    A process that is killed while it draws leaves no partial trial, and the next process draws the same.
    """

    def __init__(self, space: SearchSpace, make: Callable[[], BaseSampler]) -> None:
        self._space = space
        self._make = make
        self._reset()

    @property
    def empty(self) -> bool:
        """Return whether the copy holds no trial yet."""
        return not self._copy.get_trials(deepcopy=False)

    def draw(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """Return the parameters of the trial after these; equal trials give equal parameters."""
        self.follow(trials)
        trial = self._copy.ask()
        suggest(self._space, trial)
        drawn = self._copy.get_trials(deepcopy=False)[trial.number]
        # All values are drawn, so a sampler that keeps state of its open trials can drop this one.
        self._copy.sampler.after_trial(self._copy, drawn, TrialState.FAIL, None)
        self._open.add(trial.number)
        return drawn

    def _reset(self) -> None:
        """Replace the copy by an empty study."""
        self._storage = InMemoryStorage()
        self._copy = optuna.create_study(storage=self._storage, sampler=self._make(), direction="maximize")
        self._study_key = self._storage.get_study_id_from_name(self._copy.study_name)
        self._open: set[int] = set()  # trials of the copy that had not ended when they were last read

    def follow(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring the copy up to the stored trials; start over if a stored trial differs from its copy."""
        known = self._copy.get_trials(deepcopy=False)
        differs = any(known[n].params != trials[n].params for n in self._open if n < len(trials))
        if len(known) > len(trials) or differs:
            self._reset()
            known = []
        for number in [number for number in sorted(self._open) if trials[number].state.is_finished()]:
            self._end(trials[number])
            self._open.remove(number)
        for trial in trials[len(known) :]:
            if trial.state.is_finished():
                self._copy.add_trial(trial)
            else:
                self._copy.add_trial(running_copy(trial))
                self._open.add(trial.number)

    def _end(self, stored: FrozenTrial) -> None:
        """Give an open trial of the copy the state, values and attributes of the stored one."""
        key = self._storage.get_trial_id_from_study_id_trial_number(self._study_key, stored.number)
        for name, attribute in stored.system_attrs.items():
            self._storage.set_trial_system_attr(key, name, attribute)
        for step, value in stored.intermediate_values.items():
            self._storage.set_trial_intermediate_value(key, step, value)
        self._storage.set_trial_state_values(key, stored.state, stored.values)


def queued_value_error(space: SearchSpace, trial: FrozenTrial) -> str | None:
    """Return why the values of a queued trial lie outside the space, or None if they lie inside."""
    return outside_space(space, trial.system_attrs.get(FIXED, {}))


def outside_space(space: SearchSpace, values: Mapping[str, Any]) -> str | None:
    """Return why values, as Optuna stores them, lie outside the space, or None if they lie inside."""
    known = {parameter.path: parameter for parameter in space.parameters}
    for name, value in values.items():
        if name not in known:
            return f"{name} is not a parameter of the space"
        domain = known[name].domain
        if isinstance(domain, Choices):
            stored = [stored_value(choice) for choice in domain.values]
            if not any(value == choice and type(value) is type(choice) for choice in stored):
                return f"{name}={value!r} is not one of the choices {list(domain.values)}"
        elif not _within(domain, value):
            step = f" in steps of {domain.step}" if domain.step else ""
            kind = "integer" if domain.integer else "number"
            return f"{name}={value!r} is not a {kind} from {domain.low} to {domain.high}{step}"
    return None


def _within(domain: Range, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if not domain.low <= value <= domain.high or (domain.integer and value != int(value)):
        return False
    steps = (value - domain.low) / (domain.step or (1 if domain.integer else value - domain.low or 1))
    return domain.log or abs(steps - round(steps)) < STEP_TOLERANCE


def running_copy(drawn: FrozenTrial, attributes: Mapping[str, Any] | None = None) -> FrozenTrial:
    """Return a running trial with the drawn parameters, ready to be stored."""
    return create_trial(
        state=TrialState.RUNNING,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
        user_attrs=dict(attributes or {}),
        intermediate_values=drawn.intermediate_values,
    )


def store(
    storage: RDBStorage, study_name: str, drawn: FrozenTrial, attributes: Mapping[str, Any]
) -> FrozenTrial:
    """Store a drawn trial as running, with user attributes, in one transaction; return the stored trial.

    The storage numbers it: its number is that of the drawn trial unless another trial was added since.
    BadInputError where a trial that was added by hand has given a parameter another kind of distribution.
    """
    study_id = storage.get_study_id_from_name(study_name)
    template = running_copy(drawn, attributes)
    try:
        return storage.get_trial(storage.create_new_trial(study_id, template_trial=template))
    except ValueError as error:
        raise BadInputError(
            f"study {study_name!r} takes no more trials: one added by hand has a parameter of another "
            f"kind than the space ({' '.join(str(error).split())}): choose another name"
        ) from None
