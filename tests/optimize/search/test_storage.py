"""Optuna on the study database, with real processes."""

import multiprocessing
import pickle
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from envs.errors import BadInputError
from optimize.database import study_lock
from optimize.search.storage import load_or_create_study, open_storage

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
CAP = 14
PROCESSES = 4


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/new/a.db"


def claim_until_full(url: str) -> None:
    """Ask under the lock until the cap is reached, as a worker does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = load_or_create_study(open_storage(url), "a")
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


def test_processes_that_start_at_once_fill_the_cap_exactly(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=claim_until_full, args=(url_of(tmp_path),)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    trials = load_or_create_study(open_storage(url_of(tmp_path)), "a").trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == CAP
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.FAIL}


def test_every_connection_waits_and_writes_ahead(tmp_path: Path) -> None:
    storage = open_storage(url_of(tmp_path))
    with storage.engine.connect() as first, storage.engine.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
    assert storage.get_heartbeat_interval() is None
    assert isinstance(storage.engine.pool, sqlalchemy.pool.QueuePool)


def test_storage_travels_to_a_worker(tmp_path: Path) -> None:
    study = load_or_create_study(open_storage(url_of(tmp_path)), "a")
    study.tell(study.ask(), 1.0)
    copy = pickle.loads(pickle.dumps(open_storage(url_of(tmp_path))))
    assert load_or_create_study(copy, "a").best_value == 1.0
    with copy.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


def test_a_study_is_created_once_and_loaded_after(tmp_path: Path) -> None:
    sampler = optuna.samplers.RandomSampler(seed=0)
    pruner = optuna.pruners.NopPruner()
    study = load_or_create_study(open_storage(url_of(tmp_path)), "a.model", sampler=sampler, pruner=pruner)
    study.tell(study.ask(), 2.0)
    again = load_or_create_study(open_storage(url_of(tmp_path)), "a.model")
    assert (study.sampler, study.pruner) == (sampler, pruner)
    assert (again.best_value, again.direction) == (2.0, optuna.study.StudyDirection.MAXIMIZE)


def test_another_direction_is_refused(tmp_path: Path) -> None:
    storage = open_storage(url_of(tmp_path))
    load_or_create_study(storage, "a")
    with pytest.raises(BadInputError, match="name='a' is a stored study that goes maximize, not minimize"):
        load_or_create_study(storage, "a", "minimize")


def test_a_deleted_study_leaves_no_rows(tmp_path: Path) -> None:
    storage = open_storage(url_of(tmp_path))
    study = load_or_create_study(storage, "a")
    study.tell(study.ask(), 1.0)
    optuna.delete_study(study_name="a", storage=storage)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM trials").scalar() == 0
