"""A SQLite file that is deleted, moved or replaced while it is in use stops whoever uses it."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from optimize.database import open_engine
from optimize.errors import DatabaseReplacedError
from optimize.search.storage import load_or_create_study, open_storage
from optimize.study.failures.shortages import passes
from optimize.study.trials.claim import claim
from optimize.study.trials.execute import perform
from optimize.study.workers.process import market_builder
from tests.optimize.study.databases import close_studies
from tests.optimize.study.studies import claimed, never, opened, small_spec


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    os.replace(path.with_name("copy.db"), path)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


LOSSES = [delete, move, replace, move_folder]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "databases" / "a.db"


def used(path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE numbers (n INTEGER)"))
    return engine


@pytest.mark.parametrize("lose", LOSSES)
def test_an_engine_stops_and_makes_no_new_file(path: Path, lose: Callable[[Path], None]) -> None:
    engine = used(path)
    storage = open_storage(f"sqlite:///{path}")
    load_or_create_study(storage, "a")
    lose(path)
    for fresh in (False, True):  # by a connection that was kept, and by a new one
        if fresh:
            engine.dispose()
            storage.engine.dispose()
        with pytest.raises(DatabaseReplacedError, match=r"a\.db was deleted, moved or replaced"):
            engine.connect()
        with pytest.raises(DatabaseReplacedError):
            load_or_create_study(storage, "a")
    assert path.exists() == (lose is replace)


def test_a_file_that_comes_back_is_used_again(path: Path) -> None:
    engine = used(path)
    move(path)
    path.with_name("elsewhere.db").rename(path)
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO numbers VALUES (1)"))
    engine.dispose()


def test_a_storage_that_travelled_looks_too(path: Path) -> None:
    storage = open_storage(f"sqlite:///{path}")
    other = pickle.loads(pickle.dumps(storage))
    load_or_create_study(other, "a")
    replace(path)
    with pytest.raises(DatabaseReplacedError):
        load_or_create_study(other, "a")
    for each in (storage, other):
        each.engine.dispose()


def test_no_claim_is_made_and_no_trial_is_recorded(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=2))
    found = claimed(context)
    delete(tmp_path / "walkforge.db")
    with pytest.raises(DatabaseReplacedError):
        perform(context, found, never)
    with pytest.raises(DatabaseReplacedError) as refused:
        claim(context, 0, market_builder(context))
    assert not passes(refused.value)  # a worker waits for a database that is away, and not for this one
    assert not (tmp_path / "walkforge.db").exists()
    close_studies()
