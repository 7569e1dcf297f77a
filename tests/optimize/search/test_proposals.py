"""A proposal is drawn on a copy of the study and stored by one write, as Optuna would store it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from optimize.search.proposals import Proposals, running, store
from optimize.search.samplers import SamplerSpec, make_sampler
from optimize.search.space import parse_space, suggest
from optimize.search.storage import insert_running, load_or_create_study, open_storage

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
TABLES = ("trial_params", "trial_user_attributes", "trial_system_attributes", "trial_values")


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return open_storage(f"sqlite:///{tmp_path}/a.db")


def value_of(parameters: dict[str, Any]) -> float:
    return -(float(parameters["x"]) ** 2) + float(parameters.get("y", 0.5))


def end(study: optuna.Study, number: int) -> None:
    """Let a trial end in one of the ways that trials end."""
    trial = study.get_trials(deepcopy=False)[number]
    study._storage.set_trial_intermediate_value(trial._trial_id, 0, value_of(trial.params))
    state = {3: TrialState.FAIL, 5: TrialState.PRUNED}.get(number % 8, TrialState.COMPLETE)
    if number % 8 == 6:
        optuna.trial.Trial(study, trial._trial_id).set_constraint("feasible", 1.0)
    study.tell(number, value_of(trial.params) if state == TrialState.COMPLETE else None, state=state)


@pytest.mark.parametrize(
    ("spec", "space"),
    [
        (SamplerSpec(n_startup_trials=4), SPACE),
        (SamplerSpec(n_startup_trials=4, group=True), SPACE),
        (SamplerSpec(n_startup_trials=4, multivariate=False), SPACE),
        (SamplerSpec("cmaes", n_startup_trials=3), RANGES),
        (SamplerSpec("qmc"), SPACE),
    ],
)
def test_a_copy_proposes_what_the_study_itself_would(
    storage: RDBStorage, spec: SamplerSpec, space: Any
) -> None:
    make = partial(make_sampler, spec, 7, space)
    itself = optuna.create_study(sampler=make(), direction="maximize")
    study = load_or_create_study(storage, "a", sampler=make())
    proposals = Proposals(space, make)
    for number in range(24):
        if number == 15:
            proposals = Proposals(space, make)  # another process goes on
        trial = itself.ask()
        suggest(space, trial)
        stored = store(storage, study, proposals.draw(study.get_trials(deepcopy=False)), {})
        assert stored.number == number
        if number >= 2:  # two more run while a trial is proposed
            end(itself, number - 2)
            end(study, number - 2)
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
        store(storage, study, proposals.draw(trials), {})
        end(study, number)


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
    store(storage, study, proposals.draw(study.get_trials(deepcopy=False)), {})
    assert proposals.draw(study.get_trials(deepcopy=False)).params == {"a": 3}


def insert_by_optuna(storage: RDBStorage, study_id: int, trial: FrozenTrial) -> int:
    return storage.create_new_trial(study_id, template_trial=trial)


def stored_rows(storage: RDBStorage, trial_id: int) -> dict[str, Any]:
    """Return every row that tells of a trial, without the numbers that the database hands out."""
    with storage.engine.connect() as conn:
        found = {
            table: conn.execute(text(f"SELECT * FROM {table} WHERE trial_id = {trial_id}")).mappings().all()
            for table in (*TABLES, "trials")
        }
    serial = {"trial_id", "number", "param_id", "trial_user_attribute_id", "trial_system_attribute_id"}
    return {
        table: [{key: value for key, value in row.items() if key not in serial} for row in rows]
        for table, rows in found.items()
    }


def test_a_trial_is_stored_as_optuna_stores_it(storage: RDBStorage) -> None:
    study = load_or_create_study(storage, "a")
    asked = study.ask()
    suggest(SPACE, asked)
    drawn = study.trials[0]
    drawn.system_attrs["tpe:relative_params:0"] = '{"x": 1.5}'
    ours = running(drawn, {"repetition": 0, "batch": [0, 3], "note": 'a "quoted" ä'})
    kept = {}
    for insert in (insert_running, insert_by_optuna):
        typed: Callable[[RDBStorage, int, FrozenTrial], int] = insert
        kept[insert.__name__] = stored_rows(storage, typed(storage, study._study_id, ours))
    (begun,) = kept["insert_running"].pop("trials")
    (expected,) = kept["insert_by_optuna"].pop("trials")
    assert {**begun, "datetime_start": None} == {**expected, "datetime_start": None}
    assert kept["insert_running"] == kept["insert_by_optuna"]
    first, second, third = study.get_trials()
    assert [trial.number for trial in (first, second, third)] == [0, 1, 2]
    assert (second.params, second.distributions) == (third.params, third.distributions)
    assert (second.user_attrs, second.system_attrs) == (third.user_attrs, third.system_attrs)
    assert second.datetime_start is not None
    assert third.datetime_start is not None
    assert abs((second.datetime_start - third.datetime_start).total_seconds()) < 60
    assert begun["state"] == "RUNNING"
