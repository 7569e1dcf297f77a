import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from envs.plain import to_plain
from optimize.cli import main
from optimize.database import open_engine
from optimize.results.creation import create_tables
from optimize.results.records import Outcome, save_study
from optimize.results.states import RunState
from optimize.results.views import create_views
from optimize.search.storage import open_storage
from optimize.study.spec import StudySpec
from tests.optimize.results.factories import STUDY, complete_outcome, make_study, run_to_end

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["walkforge"])

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as left:  # Hydra leaves after --help
            code = int(left.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Return the URL of a new SQLite database; test_cli_postgresql covers PostgreSQL."""
    return f"sqlite:///{tmp_path / 'walkforge.db'}"


@pytest.fixture
def filled(database_url: str) -> str:
    """Return the database override of a study with two complete trials and a failed one."""
    engine = open_engine(database_url)
    create_tables(engine)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(database_url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    create_views(engine)
    with engine.begin() as conn:
        save_study(conn, replace(make_study(), spec=to_plain(StudySpec(name=STUDY))))
    for score, sharpes in [(0.5, (0.5,)), (1.5, (1.0, 4.0, 2.0))]:
        trial = study.ask()
        trial.suggest_float("agent.learning_rate", 1e-5, 1e-2)
        run_to_end(engine, trial.number, complete_outcome(score), sharpes=sharpes)
        study.tell(trial, score)
    failed = Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom", failure_message="out of memory")
    run_to_end(engine, study.ask().number, failed)
    study.tell(2, state=optuna.trial.TrialState.FAIL)
    storage.engine.dispose()
    engine.dispose()
    return f"database.url={database_url}"
