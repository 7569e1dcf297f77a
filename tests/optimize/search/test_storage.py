"""Optuna on the study database, with real processes."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from envs.errors import BadInputError
from optimize.database import study_lock
from optimize.search.storage import load_or_create_study, open_storage

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
CAP = 8
PROCESSES = 3
Storages = Callable[[], RDBStorage]


@pytest.fixture
def storages(database_url: str) -> Iterator[Callable[[], RDBStorage]]:
    """Yield a function that opens the storage of a new database of each kind in turn."""
    opened: list[RDBStorage] = []

    def open_again() -> RDBStorage:
        opened.append(open_storage(database_url))
        return opened[-1]

    yield open_again
    for storage in opened:
        storage.engine.dispose()


def claim_until_full(url: str) -> None:
    """Ask under the lock until the cap is reached, as a worker does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(url)
    try:
        fill(url, load_or_create_study(storage, "a"))
    finally:
        storage.engine.dispose()


def fill(url: str, study: optuna.Study) -> None:
    while True:
        with study_lock(url, "a"):
            if len(study.get_trials(deepcopy=False, states=COUNTED)) >= CAP:
                return
            trial = study.ask()
            trial.suggest_float("x", 0.0, 1.0)
        if trial.number % 5 == 4:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, 1.0)


@pytest.mark.slow
def test_processes_that_start_at_once_fill_the_cap_exactly(database_url: str, storages: Storages) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=claim_until_full, args=(database_url,)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    trials = load_or_create_study(storages(), "a").trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == CAP
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAIL}


def test_every_connection_to_a_file_waits_and_writes_ahead(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/new/a.db")
    copy = pickle.loads(pickle.dumps(storage))
    with storage.engine.connect() as first, copy.engine.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert storage.get_heartbeat_interval() is None
    assert isinstance(storage.engine.pool, sqlalchemy.pool.QueuePool)


@pytest.mark.postgres
def test_every_connection_to_a_server_waits_and_none_is_hoarded(postgres: str) -> None:
    storage = open_storage(postgres)
    with storage.engine.connect() as first, storage.engine.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "1min"
            assert connection.exec_driver_sql("SHOW application_name").scalar() == "walkforge"
            assert connection.get_isolation_level() == "READ COMMITTED"
    assert storage.engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # of a QueuePool
    storage.engine.dispose()


def test_storage_travels_to_a_worker(storages: Storages) -> None:
    study = load_or_create_study(storages(), "a")
    study.tell(study.ask(), 1.0)
    copy = pickle.loads(pickle.dumps(storages()))
    assert load_or_create_study(copy, "a").best_value == 1.0
    assert copy.engine_kwargs.keys() == storages().engine_kwargs.keys()
    copy.engine.dispose()


def test_a_study_is_created_once_and_loaded_after(storages: Storages) -> None:
    sampler = optuna.samplers.RandomSampler(seed=0)
    pruner = optuna.pruners.NopPruner()
    study = load_or_create_study(storages(), "a.model", sampler=sampler, pruner=pruner)
    study.tell(study.ask(), 2.0)
    again = load_or_create_study(storages(), "a.model")
    assert (study.sampler, study.pruner) == (sampler, pruner)
    assert (again.best_value, again.direction) == (2.0, optuna.study.StudyDirection.MAXIMIZE)


def test_another_direction_is_refused(storages: Storages) -> None:
    storage = storages()
    load_or_create_study(storage, "a")
    with pytest.raises(BadInputError, match="name='a' is a stored study that goes maximize, not minimize"):
        load_or_create_study(storage, "a", "minimize")


def test_a_deleted_study_leaves_no_rows(storages: Storages) -> None:
    storage = storages()
    study = load_or_create_study(storage, "a")
    study.tell(study.ask(), 1.0)
    optuna.delete_study(study_name="a", storage=storage)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM trials").scalar() == 0
