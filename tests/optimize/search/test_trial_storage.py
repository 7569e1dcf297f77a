"""Our storage reads, on both databases, the very trials that Optuna's own reads."""

import time
from collections.abc import Iterator
from contextlib import nullcontext

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from optimize.search import trial_storage
from optimize.search.storage import load_or_create_study, open_storage, set_user_attribute
from optimize.search.trial_storage import TrialStorage

REPORTED = [0.5, float("inf"), float("-inf"), float("nan")]


@pytest.fixture
def storage(database_url: str) -> Iterator[TrialStorage]:
    """Yield the storage of a study "a" with trials of every state, kind of parameter and kind of number."""
    storage = open_storage(database_url)
    assert isinstance(storage, TrialStorage)
    study = load_or_create_study(storage, "a")
    other = load_or_create_study(storage, "other")
    for number in range(12):
        trial = study.ask()
        trial.suggest_int("z", 1, 9, step=2)
        trial.suggest_float("b", 1e-6, 1.0, log=True)
        trial.suggest_categorical("c", [None, "a", 1.5, True])
        trial.set_user_attr("later", {"list": [number]})
        trial.set_user_attr("a", None)
        for step in (7, 0):
            trial.report(REPORTED[number % 4], step)
        if number % 4:
            state = [TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL][number % 4 - 1]
            value = [float("inf"), 1.5, float("-inf")][number % 3] if state == TrialState.COMPLETE else None
            study.tell(trial, value, state=state)
        other.ask()
    study.enqueue_trial({"b": 0.5})
    yield storage
    storage.engine.dispose()


def study_id(storage: RDBStorage) -> int:
    return storage.get_study_id_from_name("a")


def described(trial: FrozenTrial) -> str:
    """Return all of a trial; the order of its attributes, which no database promises, left out."""
    attributes = sorted(trial.user_attrs.items()), sorted(trial.system_attrs.items())
    reported = sorted(trial.intermediate_values.items())
    trial.user_attrs, trial.system_attrs, trial.intermediate_values = {}, {}, {}
    return f"{trial!r} {attributes} {reported}"


@pytest.mark.parametrize("states", [None, (TrialState.PRUNED, TrialState.RUNNING), ()])
@pytest.mark.parametrize(
    ("listed", "after"), [((), -1), ((), 5), ((1, 3, 9), 11), ((1, 3), 10**6), ((), 10**6)]
)
def test_trials_are_those_that_optuna_reads(
    storage: TrialStorage, states: tuple[TrialState, ...] | None, listed: tuple[int, ...], after: int
) -> None:
    asked = study_id(storage), states, set(listed), after
    ours, theirs = storage._get_trials(*asked), RDBStorage._get_trials(storage, *asked)
    assert list(map(described, ours)) == list(map(described, theirs))


def test_times_are_local_ones(storage: TrialStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study_id(storage), None, set[int](), -1
    here = storage._get_trials(*first)[0].datetime_start
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        there = storage._get_trials(*first)[0].datetime_start
        assert there == RDBStorage._get_trials(storage, *first)[0].datetime_start
    finally:
        monkeypatch.undo()
        time.tzset()
    assert here is not None
    assert there is not None
    assert there != here


def test_there_is_something_of_every_kind_to_read(storage: TrialStorage) -> None:
    trials = storage.get_all_trials(study_id(storage))
    assert {trial.state for trial in trials} == set(TrialState)
    assert {float(trial.value) for trial in trials if trial.value is not None} >= {1.5, float("inf")}
    reported = [value for trial in trials for value in trial.intermediate_values.values()]
    assert {str(value) for value in reported} == {"0.5", "inf", "-inf", "nan"}
    assert trials[-1].system_attrs == {"fixed_params": {"b": 0.5}}


def test_more_trials_than_a_statement_may_name_are_left_to_optuna(
    storage: TrialStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = study_id(storage), None, {1, 3, 5}, 10**6
    before = storage._get_trials(*asked)
    monkeypatch.setattr(trial_storage, "MOST_LISTED", 2)
    monkeypatch.setattr(trial_storage, "read_trials", nullcontext)  # not to be called
    assert list(map(described, storage._get_trials(*asked))) == list(map(described, before))


def test_a_study_that_is_not_there_is_the_error_of_optuna(storage: TrialStorage) -> None:
    with pytest.raises(KeyError) as ours:
        storage._get_trials(999, None, set(), -1)
    with pytest.raises(KeyError) as theirs:
        RDBStorage._get_trials(storage, 999, None, set(), -1)
    assert str(ours.value) == str(theirs.value)


def test_new_trials_cost_two_statements(storage: TrialStorage) -> None:
    study = optuna.load_study(study_name="a", storage=storage)
    study.get_trials(deepcopy=False)
    said: list[str] = []
    event.listen(storage.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    study.get_trials(deepcopy=False)
    assert len(said) == 2


def test_an_attribute_is_stored_and_overwritten_as_optuna_does(storage: TrialStorage) -> None:
    running = storage.get_all_trials(study_id(storage), states=(TrialState.RUNNING,))[0]
    for value in ("first", {"second": 2}):
        with storage.engine.begin() as conn:
            set_user_attribute(conn, running._trial_id, "run_uuid", value)
        assert storage.get_trial(running._trial_id).user_attrs["run_uuid"] == value
