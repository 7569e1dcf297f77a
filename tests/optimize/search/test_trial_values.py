"""Only COMPLETE trials have a value, so that the highest stored value is that of the best trial."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, CmaEsSampler, TPESampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from optimize.database import open_engine
from optimize.results.orphans import drop_values
from optimize.search.pruners import make_pruner
from optimize.search.spec import PrunerSpec
from optimize.search.storage import load_or_create_study, open_storage

AS_TYPED = text("SELECT MAX(value) FROM trial_values")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'walkforge.db'}"


@pytest.fixture
def storage(url: str) -> Iterator[RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    yield storage
    storage.engine.dispose()


def play(study: optuna.Study, trials: int = 30) -> list[dict[str, Any]]:
    """Run trials of which each third is pruned at a high running score; return the proposed values."""
    for number in range(trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", -5.0, 5.0), trial.suggest_float("y", 0.1, 10.0, log=True)
        score = -((x - 1.0) ** 2) - (y - 2.0) ** 2
        trial.report(score + 50.0 * (number % 3 == 0), step=0)
        trial.report(score + 90.0 * (number % 3 == 0), step=1)
        if number % 3:
            study.tell(trial, score)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return [trial.params for trial in study.trials]


def highest(storage: RDBStorage) -> object:
    with storage.engine.connect() as conn:
        return conn.execute(AS_TYPED).scalar()


def test_the_maximum_as_typed_is_the_best_trial(storage: RDBStorage) -> None:
    study = load_or_create_study(storage, "a")
    play(study)
    failed = study.ask()
    failed.report(99.0, step=0)
    study.tell(failed, state=TrialState.FAIL)
    assert highest(storage) == study.best_trial.value
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert [trial.value for trial in pruned] == [None] * 10
    assert all(trial.intermediate_values for trial in pruned)


def test_values_that_optuna_left_are_dropped_from_one_study(storage: RDBStorage, url: str) -> None:
    pruned = create_trial(state=TrialState.PRUNED, value=9.0, intermediate_values={0: 9.0})
    for name in ("a", "other"):
        study = load_or_create_study(storage, name)
        study.add_trial(pruned)
        study.tell(study.ask(), 1.0)
    assert highest(storage) == 9.0
    engine = open_engine(url)
    with engine.begin() as conn:
        assert drop_values(conn, "a") == 1
    study = load_or_create_study(storage, "a")
    assert [trial.value for trial in study.trials] == [None, 1.0]
    assert study.trials[0].intermediate_values == {0: 9.0}
    assert highest(storage) == 9.0  # of the other study
    with engine.begin() as conn:
        assert drop_values(conn, "other") == 1
    assert highest(storage) == 1.0
    engine.dispose()


@pytest.mark.parametrize("make", [lambda: TPESampler(seed=3), lambda: CmaEsSampler(seed=3)])
@pytest.mark.slow
def test_a_sampler_proposes_the_same_without_these_values(make: Any, tmp_path: Path) -> None:
    def proposals(storage: Any) -> list[dict[str, Any]]:
        sampler: BaseSampler = make()
        return play(optuna.create_study(storage=storage, sampler=sampler, direction="maximize"))

    with_values, storage = proposals(InMemoryStorage()), open_storage(f"sqlite:///{tmp_path / 'a.db'}")
    assert proposals(storage) == with_values
    storage.engine.dispose()


@pytest.mark.parametrize("name", ["median", "successive_halving"])
def test_a_pruner_judges_the_same_without_these_values(name: str, tmp_path: Path) -> None:
    pruner = make_pruner(PrunerSpec(name=name, n_startup_trials=2, n_warmup_steps=0, exempt_share=0.0), 1)

    def verdicts(storage: Any) -> list[bool]:
        study = optuna.create_study(storage=storage, pruner=pruner, direction="maximize")
        play(study, 12)
        judged = []
        for value in (-100.0, 10.0, 200.0):
            trial = study.ask()
            trial.report(value, step=1)
            judged.append(trial.should_prune())
        return judged

    storage = open_storage(f"sqlite:///{tmp_path / 'a.db'}")
    assert verdicts(storage) == verdicts(InMemoryStorage())
    assert set(verdicts(InMemoryStorage())) == {False, True}
    storage.engine.dispose()
