import csv
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from optimize.errors import BadInputError
from optimize.results import queries
from optimize.results.queries import best_models, list_queries, run_query
from optimize.results.records import Outcome, save_study
from optimize.results.states import RunState
from optimize.results.views import create_views
from optimize.search.storage import open_storage
from tests.optimize.results.factories import STUDY, complete_outcome, make_study, run_to_end
from tests.postgres import Server

QUERY_FILES = Path(__file__).resolve().parents[3] / "databases" / "queries"
NAMES = ["best_models", "failures", "study_progress", "windows_of"]


@pytest.fixture
def filled(engine: Engine, url: str) -> Iterator[Engine]:
    """Yield a database with two complete trials and a failed one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    create_views(engine)
    with engine.begin() as conn:
        save_study(conn, make_study())
    for score, sharpes in [(0.5, (0.5,)), (1.5, (1.0, 4.0, 2.0))]:
        trial = study.ask()
        trial.suggest_categorical("net", ["small", "medium", "large"])
        trial.suggest_float("rate", 0.0, 1.0)
        run_to_end(engine, trial.number, complete_outcome(score), sharpes=sharpes)
        study.tell(trial, score)
    failed = Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom", failure_message="out of memory")
    run_to_end(engine, study.ask().number, failed)
    study.tell(2, state=optuna.trial.TrialState.FAIL)
    yield engine
    storage.engine.dispose()


def test_every_query_file_says_what_it_shows() -> None:
    assert [name for name, _ in list_queries()] == NAMES
    for name, line in list_queries():
        assert len(line) > 20, name
        assert (QUERY_FILES / f"{name}.sql").read_text(encoding="utf-8").startswith(f"-- {line}\n")


def test_the_queries_answer(filled: Engine) -> None:
    columns, best = run_query(filled, "best_models", {"name": STUDY})
    assert columns[:2] == ["trial_number", "score"]
    assert [row[:2] for row in best] == [(1, 1.5), (0, 0.5)]
    columns, windows = run_query(filled, "windows_of", {"name": STUDY})
    assert [row[columns.index("sharpe")] for row in windows] == [1.0, 4.0, 2.0, 0.5]
    columns, failures = run_query(filled, "failures", {"name": STUDY})
    assert [row[1:5] for row in failures] == [("oom", "out of memory", 1, 2)]
    columns, progress = run_query(filled, "study_progress", {"name": STUDY})
    assert dict(zip(columns, progress[0], strict=True))["complete"] == 2


@pytest.mark.parametrize("name", ["study_progress", "failures"])
def test_the_name_of_a_study_stands_for_its_phases(filled: Engine, name: str) -> None:
    assert [row[0] for row in run_query(filled, name, {"name": "btc"})[1]] == [STUDY]
    assert run_query(filled, name, {"name": "bt_"})[1] == []
    assert run_query(filled, name, {"name": "bt"})[1] == []


def in_shell(request: pytest.FixtureRequest, engine: Engine, name: str) -> str:
    """Return what the database's own shell prints for a query file, as CSV without a header."""
    file = QUERY_FILES / f"{name}.sql"
    if engine.dialect.name == "postgresql":
        server: Server = request.getfixturevalue("postgres_server")
        variable = f"name='{STUDY}'"
        return server.psql(str(engine.url.database), "--csv", "-t", "-v", variable, "-f", str(file))
    shell = subprocess.run(
        ["sqlite3", "-bail", "-csv", str(engine.url.database)],
        input=f""".param set :name "'{STUDY}'"\n.read {file}\n""",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (shell.returncode, shell.stderr) == (0, "")
    return shell.stdout


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_a_query_file_runs_in_the_shell_of_the_database_too(
    request: pytest.FixtureRequest, filled: Engine, name: str
) -> None:
    printed = list(csv.reader(io.StringIO(in_shell(request, filled, name))))
    columns, rows = run_query(filled, name, {"name": STUDY})
    assert len(printed) == len(rows) > 0
    for words, row in zip(printed, rows, strict=True):
        assert [spelled(word) for word in words] == [spelled(value) for value in row], columns


def spelled(value: object) -> object:
    """Return a value as both the shell and Python would say it."""
    try:
        return float(str(value))
    except ValueError:
        return "" if value is None else str(value)


def test_an_unknown_query_or_parameter_names_the_choices(filled: Engine) -> None:
    with pytest.raises(BadInputError, match=", ".join(NAMES)):
        run_query(filled, "best", {"name": STUDY})
    with pytest.raises(BadInputError, match="takes the parameters name, got none"):
        run_query(filled, "best_models", {})
    with pytest.raises(BadInputError, match="takes the parameters name, got limit, name"):
        run_query(filled, "best_models", {"name": STUDY, "limit": 3})


def test_a_database_without_a_study_is_refused_in_one_line(engine: Engine) -> None:
    for ask in (
        lambda: run_query(engine, "best_models", {"name": STUDY}),
        lambda: best_models(engine, STUDY),
    ):
        with pytest.raises(BadInputError, match="holds no study yet"):
            ask()


def test_a_query_cannot_write_and_leaves_the_connection_as_it_was(filled: Engine) -> None:
    with (
        queries._reading(filled) as conn,
        pytest.raises(DBAPIError, match=r"attempt to write a readonly database|in a read-only transaction"),
    ):
        conn.execute(text("DELETE FROM wf_runs"))
    with filled.begin() as conn:
        conn.execute(text("UPDATE wf_runs SET reason = 'written'"))


def test_the_leaderboard_shows_the_spread_over_windows(filled: Engine) -> None:
    first, second = best_models(filled, STUDY)
    assert (first.rank, first.trial_number, first.score, first.windows) == (1, 1, 1.5, 3)
    assert (first.window_sharpe_min, first.window_sharpe_median, first.window_sharpe_max) == (1.0, 2.0, 4.0)
    assert set(first.parameters) == {"net", "rate"}
    assert first.parameters["net"] in ("small", "medium", "large")
    assert (second.rank, second.window_sharpe_median) == (2, 0.5)
    assert [row.rank for row in best_models(filled, STUDY, limit=1)] == [1]
    assert best_models(filled, "absent") == []
    with pytest.raises(BadInputError, match="limit=0"):
        best_models(filled, STUDY, limit=0)


def test_what_is_no_readable_file_among_the_queries_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.sql").write_text("-- my query\nSELECT 1", encoding="utf-8")
    (tmp_path / "broken.sql").write_bytes(b"\xff\xfe no text")
    (tmp_path / "folder.sql").mkdir()
    os.mkfifo(tmp_path / "pipe.sql")
    monkeypatch.setattr("optimize.results.queries.resources.files", lambda _: tmp_path)
    assert [name for name, _ in list_queries()] == ["broken", "mine"]
