"""A proposal is drawn on a copy of the study in memory and stored by one write."""

from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import Trial, TrialState

from optimize.search.proposals import Proposals, store
from optimize.search.samplers import make_sampler
from optimize.search.space import parse_space, suggest
from optimize.search.spec import SamplerSpec
from optimize.search.storage import load_or_create_study, open_storage
from tests.tiers import mostly_slow

SPACE = parse_space(
    {
        "x": {"low": -2.0, "high": 2.0},
        "n": {"low": 1, "high": 64, "log": True},
        "step": {"low": 0.1, "high": 0.5, "step": 0.1},
        "kind": ["a", None, True],
        "y": {"low": 0.0, "high": 1.0, "when": {"kind": ["a", True]}},
    }
)
RANGES = parse_space({"x": {"low": -2.0, "high": 2.0}, "y": {"low": 1e-3, "high": 1.0, "log": True}})


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return open_storage(f"sqlite:///{tmp_path}/a.db")


def value_of(parameters: dict[str, Any]) -> float:
    return -(float(parameters["x"]) ** 2) + float(parameters.get("y", 0.5))


def end(study: optuna.Study, storage: BaseStorage, number: int) -> None:
    """Let a trial end in one of the ways that trials end."""
    trial = study.get_trials(deepcopy=False)[number]
    study_id = storage.get_study_id_from_name(study.study_name)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    storage.set_trial_intermediate_value(trial_id, 0, value_of(trial.params))
    state = {3: TrialState.FAIL, 5: TrialState.PRUNED}.get(number % 8, TrialState.COMPLETE)
    if number % 8 == 6:
        Trial(study, trial_id).set_constraint("feasible", 1.0)
    study.tell(number, value_of(trial.params) if state == TrialState.COMPLETE else None, state=state)


@pytest.mark.parametrize(
    ("spec", "space"),
    mostly_slow(
        [
            (SamplerSpec(n_startup_trials=4), SPACE),
            (SamplerSpec(n_startup_trials=4, group=True), SPACE),
            (SamplerSpec(n_startup_trials=4, multivariate=False), SPACE),
            (SamplerSpec("cmaes", n_startup_trials=3), RANGES),
            (SamplerSpec("qmc"), SPACE),
        ],
        (SamplerSpec(n_startup_trials=4), SPACE),
    ),
)
def test_a_copy_proposes_what_the_study_itself_would(
    storage: RDBStorage, spec: SamplerSpec, space: Any
) -> None:
    make = partial(make_sampler, spec, 7, space)
    memory = InMemoryStorage()
    itself = optuna.create_study(storage=memory, sampler=make(), direction="maximize")
    study = load_or_create_study(storage, "a", sampler=make())
    proposals = Proposals(space, make)
    for number in range(24):
        if number == 15:
            proposals = Proposals(space, make)  # another process goes on
        trial = itself.ask()
        suggest(space, trial)
        stored = store(storage, "a", proposals.draw(study.get_trials(deepcopy=False)), {})
        assert stored.number == number
        if number >= 2:  # two more run while a trial is proposed
            end(itself, memory, number - 2)
            end(study, storage, number - 2)
    assert [trial.params for trial in study.trials] == [trial.params for trial in itself.trials]
    assert len({str(trial.params) for trial in study.trials}) == 24


def test_a_proposal_that_was_never_stored_is_drawn_again(storage: RDBStorage) -> None:
    make = partial(make_sampler, SamplerSpec(n_startup_trials=2), 3, SPACE)
    study = load_or_create_study(storage, "a", sampler=make())
    proposals = Proposals(SPACE, make)
    for number in range(5):
        trials = study.get_trials(deepcopy=False)
        lost = proposals.draw(trials)
        assert lost.params == proposals.draw(trials).params
        store(storage, "a", proposals.draw(trials), {})
        end(study, storage, number)


def test_a_trial_that_is_not_what_was_proposed_is_seen_as_it_is(storage: RDBStorage) -> None:
    make = partial(make_sampler, SamplerSpec("grid"), 0, parse_space({"a": [1, 2, 3]}))
    study = load_or_create_study(storage, "a", sampler=make())
    proposals = Proposals(parse_space({"a": [1, 2, 3]}), make)
    assert proposals.draw([]).params == {"a": 1}
    study.enqueue_trial({"a": 2})
    queued = study.get_trials(deepcopy=False)
    assert proposals.draw(queued).params == {"a": 1}
    study.ask().suggest_categorical("a", [1, 2, 3])  # somebody else takes the queued one
    assert proposals.draw(study.get_trials(deepcopy=False)).params == {"a": 1}
    store(storage, "a", proposals.draw(study.get_trials(deepcopy=False)), {})
    assert proposals.draw(study.get_trials(deepcopy=False)).params == {"a": 3}


def test_a_drawn_trial_is_stored_whole(storage: RDBStorage) -> None:
    make = partial(make_sampler, SamplerSpec(n_startup_trials=1), 3, SPACE)
    study = load_or_create_study(storage, "a")
    first = study.ask()
    suggest(SPACE, first)
    study.tell(first, 1.0)
    proposals = Proposals(SPACE, make)
    for number in (1, 2, 3):
        drawn = proposals.draw(study.get_trials(deepcopy=False))
        attributes = {"repetition": 0, "batch": [0, 3], "note": 'a "quoted" ä'}
        stored = store(storage, "a", drawn, attributes)
        assert (stored.number, stored.state) == (number, TrialState.RUNNING)
        assert (stored.params, stored.distributions) == (drawn.params, drawn.distributions)
        assert (stored.user_attrs, stored.system_attrs) == (attributes, drawn.system_attrs)
        assert stored.datetime_start is not None
        assert study.trials[number] == stored
        study.tell(number, value_of(stored.params))
    assert drawn.system_attrs  # parameters drawn jointly, for samplers that look at running trials
