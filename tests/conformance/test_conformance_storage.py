"""Optuna's guarantees of a storage hold for ours, on both databases, with one difference.

The cases are those of Optuna's own suite for storages, written anew.
"""

import math
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from optimize.search.storage import load_or_create_study, open_storage, trial_id

MAXIMIZE = [StudyDirection.MAXIMIZE]
NUMBERS = (0.0, -0.0, 1.5, 1e300, 5e-324, 0.1 + 0.2, math.inf, -math.inf)
ATTRIBUTES: tuple[Any, ...] = (
    None, True, 0, 2**60, 0.1 + 0.2, "", "é ☃ 'quoted' {brace} 100 %", [], [1, [2.5, None]], {"a": {"b": []}},
)  # fmt: skip
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
PARAMETERS: dict[str, tuple[Any, BaseDistribution]] = {
    "z": (3, IntDistribution(1, 9, step=2)),
    "a.log": (1e-5, FloatDistribution(1e-6, 1.0, log=True)),
    "m": (None, CategoricalDistribution([None, True, 1.5, "x"])),
    "b": (0.1 + 0.2, FloatDistribution(-1.0, 1.0)),
}


@pytest.fixture
def storage(database_url: str) -> Iterator[RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(database_url)
    yield storage
    storage.engine.dispose()


@pytest.fixture
def study_id(storage: RDBStorage) -> int:
    return storage.create_new_study(MAXIMIZE, "a")


def test_studies_have_names_ids_and_directions(storage: RDBStorage) -> None:
    names = ["a", "A", "a.model", "é ☃", "n" * 500]
    ids = [storage.create_new_study(MAXIMIZE, name) for name in names]
    assert len(set(ids)) == len(names)
    for study_id, name in zip(ids, names, strict=True):
        assert storage.get_study_id_from_name(name) == study_id
        assert storage.get_study_name_from_id(study_id) == name
        assert storage.get_study_directions(study_id) == MAXIMIZE
    assert {each.study_name for each in storage.get_all_studies()} == set(names)
    with pytest.raises(DuplicatedStudyError):
        storage.create_new_study(MAXIMIZE, "a")
    with pytest.raises(KeyError):
        storage.get_study_id_from_name("none")
    with pytest.raises(KeyError):
        storage.get_study_name_from_id(max(ids) + 1)


def test_a_deleted_study_leaves_the_others_and_its_name(storage: RDBStorage, study_id: int) -> None:
    other = storage.create_new_study(MAXIMIZE, "b")
    kept = storage.create_new_trial(other)
    storage.create_new_trial(study_id)
    storage.delete_study(study_id)
    assert [each.study_name for each in storage.get_all_studies()] == ["b"]
    assert storage.get_trial(kept).number == 0
    assert storage.get_all_trials(storage.create_new_study(MAXIMIZE, "a")) == []
    with pytest.raises(KeyError):
        storage.delete_study(max(study_id, other) + 9)


@pytest.mark.parametrize("kind", ["study_user", "study_system", "trial_user", "trial_system"])
def test_attributes_come_back_as_they_were(storage: RDBStorage, study_id: int, kind: str) -> None:
    of, _, sort = kind.partition("_")
    owner = study_id if of == "study" else storage.create_new_trial(study_id)
    put = getattr(storage, f"set_{of}_{sort}_attr")
    for number, value in enumerate(ATTRIBUTES):
        put(owner, f"key {number}", value)
    put(owner, "key 0", "overwritten")
    put(owner, "k" * 500, "v" * 100_000)
    whole = dict(enumerate(ATTRIBUTES)) | {0: "overwritten"}
    read = storage.get_trial(owner) if of == "trial" else None
    found = getattr(read, f"{sort}_attrs") if read else getattr(storage, f"get_study_{sort}_attrs")(owner)
    assert found.pop("k" * 500) == "v" * 100_000
    assert found == {f"key {number}": value for number, value in whole.items()}
    other = "system" if sort == "user" else "user"
    assert (
        getattr(read, f"{other}_attrs") if read else getattr(storage, f"get_study_{other}_attrs")(owner)
    ) == {}


@pytest.mark.parametrize("number", NUMBERS)
def test_values_of_complete_trials_come_back_bit_for_bit(
    storage: RDBStorage, study_id: int, number: float
) -> None:
    stored = storage.create_new_trial(study_id)
    assert storage.set_trial_state_values(stored, TrialState.COMPLETE, [number])
    found = storage.get_trial(stored)
    assert (found.state, found.values) == (TrialState.COMPLETE, [number])
    assert found.datetime_start is not None
    assert found.datetime_complete is not None
    assert found.datetime_complete >= found.datetime_start


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_other_trials_have_no_value(storage: RDBStorage, study_id: int, state: TrialState) -> None:
    """The one difference: Optuna's storages keep every value that they are given."""
    stored = storage.create_new_trial(study_id)
    assert storage.set_trial_state_values(stored, state, [1.0])
    assert (storage.get_trial(stored).state, storage.get_trial(stored).values) == (state, None)


@pytest.mark.parametrize("state", FINISHED)
def test_what_has_ended_is_not_changed(storage: RDBStorage, study_id: int, state: TrialState) -> None:
    stored = storage.create_new_trial(study_id)
    storage.set_trial_state_values(stored, state, [1.0] if state == TrialState.COMPLETE else None)
    name, (value, distribution) = next(iter(PARAMETERS.items()))
    internal = distribution.to_internal_repr(value)
    for change in (
        lambda: storage.set_trial_state_values(stored, TrialState.RUNNING),
        lambda: storage.set_trial_param(stored, name, internal, distribution),
        lambda: storage.set_trial_intermediate_value(stored, 0, 1.0),
        lambda: storage.set_trial_user_attr(stored, "key", 1),
        lambda: storage.set_trial_system_attr(stored, "key", 1),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            change()


def test_intermediate_values_of_every_kind(storage: RDBStorage, study_id: int) -> None:
    stored = storage.create_new_trial(study_id)
    for step, value in [*enumerate((*NUMBERS, math.nan)), (0, 7.0)]:
        storage.set_trial_intermediate_value(stored, step, value)
    found = storage.get_trial(stored).intermediate_values
    assert math.isnan(found.pop(len(NUMBERS)))
    assert found == dict(enumerate(NUMBERS)) | {0: 7.0}


def test_parameters_keep_their_order_values_and_distributions(storage: RDBStorage, study_id: int) -> None:
    stored = storage.create_new_trial(study_id)
    for name, (value, distribution) in PARAMETERS.items():
        storage.set_trial_param(stored, name, distribution.to_internal_repr(value), distribution)
    found = storage.get_trial(stored)
    assert list(found.params.items()) == [(name, value) for name, (value, _) in PARAMETERS.items()]
    assert found.distributions == {name: distribution for name, (_, distribution) in PARAMETERS.items()}
    assert storage.get_trial_param(stored, "z") == 3.0
    with pytest.raises(KeyError):
        storage.get_trial_param(stored, "none")


def test_a_parameter_keeps_its_kind_in_all_trials(storage: RDBStorage, study_id: int) -> None:
    first, second = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    storage.set_trial_param(first, "x", 0.0, CategoricalDistribution([1, 2]))
    for other in (CategoricalDistribution([1, 3]), FloatDistribution(0, 1)):
        with pytest.raises(ValueError, match=r"[Dd]istribution"):
            storage.set_trial_param(second, "x", 0.0, other)
    elsewhere = storage.create_new_trial(storage.create_new_study(MAXIMIZE, "b"))
    storage.set_trial_param(elsewhere, "x", 0.0, FloatDistribution(0, 1))


def test_templates_of_every_state(storage: RDBStorage, study_id: int) -> None:
    for number, state in enumerate(TrialState):
        template = create_trial(
            state=state,
            value=1.5 if state == TrialState.COMPLETE else None,
            params={name: value for name, (value, _) in PARAMETERS.items()},
            distributions={name: distribution for name, (_, distribution) in PARAMETERS.items()},
            user_attrs={"user": 1},
            system_attrs={"system": 2},
            intermediate_values={3: math.nan, 1: 2.0},
        )
        found = storage.get_trial(storage.create_new_trial(study_id, template))
        assert (found.number, found.state, found.values) == (number, state, template.values)
        assert (found.params, found.distributions) == (template.params, template.distributions)
        assert (found.user_attrs, found.system_attrs) == ({"user": 1}, {"system": 2})
        assert sorted(found.intermediate_values) == [1, 3]


def test_trials_are_counted_and_chosen_by_state(storage: RDBStorage, study_id: int) -> None:
    for state in TrialState:
        value = 1.0 if state == TrialState.COMPLETE else None
        storage.create_new_trial(study_id, create_trial(state=state, value=value))
    assert storage.get_n_trials(study_id) == len(TrialState)
    for state in TrialState:
        assert storage.get_n_trials(study_id, state) == 1
        (found,) = storage.get_all_trials(study_id, states=(state,))
        assert found.state == state
    assert storage.get_all_trials(study_id, states=()) == []
    numbers = [trial.number for trial in storage.get_all_trials(study_id, deepcopy=False)]
    assert numbers == list(range(len(TrialState)))
    third = trial_id(storage, "a", 2)
    assert third == storage.get_trial_id_from_study_id_trial_number(study_id, 2)
    assert storage.get_trial_number_from_id(third) == 2
    assert storage.get_trial(third).number == 2
    with pytest.raises(KeyError):
        storage.get_trial_id_from_study_id_trial_number(study_id, 99)
    with pytest.raises(KeyError):
        storage.get_trial(third + 99)


def test_a_copy_that_is_read_is_the_reader_s(storage: RDBStorage, study_id: int) -> None:
    stored = storage.create_new_trial(study_id, create_trial(value=1.0, user_attrs={"list": [1]}))
    storage.get_trial(stored).user_attrs["list"].append(2)
    assert storage.get_all_trials(study_id)[0].user_attrs == {"list": [1]}


@pytest.mark.parametrize(("values", "best"), [([1.0, 3.0, 2.0], 1), ([-math.inf, math.inf], 1)])
def test_the_best_trial(storage: RDBStorage, values: list[float], best: int) -> None:
    study = load_or_create_study(storage, "a")
    with pytest.raises(ValueError, match=r"No trials|does not exist"):
        _ = study.best_trial
    for value in values:
        study.tell(study.ask(), value)
    study.tell(study.ask(), state=TrialState.FAIL)
    assert study.best_trial.number == best


def test_nan_is_no_value(storage: RDBStorage) -> None:
    study = load_or_create_study(storage, "a")
    with pytest.raises(ValueError, match="nan"):
        study.tell(study.ask(), math.nan, state=TrialState.COMPLETE)


def test_a_waiting_trial_starts_once(storage: RDBStorage) -> None:
    study = load_or_create_study(storage, "a")
    study.enqueue_trial({"x": 1})
    study.enqueue_trial({"x": 1}, skip_if_exists=True)
    study.enqueue_trial({"x": 2})
    first = trial_id(storage, "a", 0)
    assert storage.set_trial_state_values(first, TrialState.RUNNING)
    assert not storage.set_trial_state_values(first, TrialState.RUNNING)
    study.ask()
    assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING] * 2


def test_many_threads_ask_and_tell(storage: RDBStorage) -> None:
    study = load_or_create_study(storage, "a", sampler=optuna.samplers.RandomSampler(seed=0))

    def work(worker: int) -> None:
        own = optuna.load_study(study_name="a", storage=storage)
        for _ in range(5):
            trial = own.ask()
            trial.set_user_attr("worker", worker)
            own.tell(trial, float(worker))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(20))
    assert sorted(trial.user_attrs["worker"] for trial in trials) == sorted([0, 1, 2, 3] * 5)
    assert all(trial.value == trial.user_attrs["worker"] for trial in trials)


def test_a_storage_travels(storage: RDBStorage, study_id: int) -> None:
    stored = storage.create_new_trial(study_id)
    other = pickle.loads(pickle.dumps(storage))
    other.set_trial_state_values(stored, TrialState.PRUNED, [1.0])
    assert type(other) is type(storage)
    assert storage.get_trial(stored).state == TrialState.PRUNED
    assert storage.get_trial(stored).values is None
    other.engine.dispose()


def test_no_trial_is_failed_for_want_of_a_heartbeat(storage: RDBStorage, study_id: int) -> None:
    """Leases are ours: Optuna must never fail a trial by itself."""
    storage.create_new_trial(study_id)
    assert storage.get_heartbeat_interval() is None
    assert storage.get_heartbeat_stale_trial_callback() is None
