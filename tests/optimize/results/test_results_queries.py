import csv
import io
import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from optimize.errors import BadInputError
from optimize.results import queries
from optimize.results.event_log import log_event
from optimize.results.events import OuterWindowTraded
from optimize.results.queries import best_models, list_queries, query_parameters, run_query
from optimize.results.records import Outcome, save_study
from optimize.results.states import RunState
from optimize.results.views import create_views
from optimize.search.storage import open_storage
from tests.optimize.results.factories import STUDY, complete_outcome, make_study, run_to_end
from tests.postgres import Server

QUERY_FILES = Path(__file__).resolve().parents[3] / "databases" / "queries"
NAMES = [
    "best_models", "best_per_timeframe", "cost_sensitive_models", "duplicates", "failures", "nested",
    "promotion_candidates", "stability_over_windows", "study_progress", "time_and_cost", "windows_of",
]  # fmt: skip
LIMITS = {"min_sharpe": 0.75, "min_trades": 40, "min_windows": 1, "last_windows": 2}


NETS = CategoricalDistribution(["small", "medium", "large"])


@pytest.fixture
def filled(engine: Engine, url: str) -> Iterator[Engine]:
    """Yield a database with two complete trials, a failed one, and a parameter set that ran three times."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    create_views(engine)
    with engine.begin() as conn:
        save_study(conn, make_study())
    for score, sharpes in [(0.5, (0.5,)), (1.5, (1.0, 4.0, 2.0))]:
        trial = study.ask({"net": NETS, "rate": FloatDistribution(0.0, 1.0)})
        outcome = complete_outcome(score)
        free = {**outcome.metrics, "sharpe_zero_cost": score + 0.25}
        run_to_end(engine, trial.number, replace(outcome, metrics=free), sharpes=sharpes)
        study.tell(trial, score)
    failed = Outcome(state=RunState.FAIL, seconds=1.0, failure_kind="oom", failure_message="out of memory")
    run_to_end(engine, study.ask().number, failed)
    study.tell(2, state=optuna.trial.TrialState.FAIL)
    for score in (-1.0, -0.5, -0.25):  # one parameter set three times
        study.enqueue_trial({"net": "small", "rate": 0.5})
        trial = study.ask({"net": NETS, "rate": FloatDistribution(0.0, 1.0)})
        run_to_end(engine, trial.number, complete_outcome(score), sharpes=(score,))
        study.tell(trial, score)
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
    assert [row[:2] for row in best] == [(1, 1.5), (0, 0.5), (4, -0.5)]
    columns, windows = run_query(filled, "windows_of", {"name": STUDY})
    assert [row[columns.index("sharpe")] for row in windows] == [1.0, 4.0, 2.0, 0.5, -0.5]
    columns, failures = run_query(filled, "failures", {"name": STUDY})
    assert [row[1:5] for row in failures] == [("oom", "out of memory", 1, 2)]
    columns, progress = run_query(filled, "study_progress", {"name": STUDY})
    assert dict(zip(columns, progress[0], strict=True))["complete"] == 5


def asked(engine: Engine, name: str, **given: Any) -> list[dict[str, Any]]:
    parameters = dict.fromkeys(query_parameters(name)) | {"name": STUDY} | given
    columns, rows = run_query(engine, name, parameters)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_the_queries_on_windows_costs_and_time_answer(filled: Engine) -> None:
    stable = asked(filled, "stability_over_windows")
    assert [(row["trial_number"], row["windows"], row["positive"]) for row in stable] == [
        (1, 3, 3), (0, 1, 1), (4, 1, 0),
    ]  # fmt: skip
    assert (stable[0]["worst_sharpe"], stable[0]["best_sharpe"]) == (1.0, 4.0)
    assert [row["lost_to_costs"] for row in asked(filled, "cost_sensitive_models")] == [0.25, 0.25]
    spent = {row["state"]: row["runs"] for row in asked(filled, "time_and_cost")}
    assert spent == {"COMPLETE": 5, "FAIL": 1}
    (kept,) = asked(filled, "best_per_timeframe")  # these runs stored no timeframe: one group
    assert (kept["trial_number"], kept["score"]) == (1, 1.5)


def test_duplicates_show_how_far_the_runs_of_a_parameter_set_lie_apart(filled: Engine) -> None:
    (row,) = asked(filled, "duplicates")
    scores = [-1.0, -0.5, -0.25]
    assert (row["trial_number"], row["runs"], row["median"]) == (4, 3, -0.5)
    assert row["mean"] == pytest.approx(statistics.mean(scores), rel=1e-15)
    assert row["deviation"] == pytest.approx(statistics.stdev(scores), rel=1e-15)


def test_best_models_names_the_source_and_the_flags_of_each_set(filled: Engine) -> None:
    for query in ("best_models", "best_per_timeframe", "promotion_candidates"):
        row = asked(filled, query)[0]
        assert (row["source"], row["flags"]) == ("sampler", None)


def test_promotion_candidates_pass_in_enough_of_the_newest_windows(filled: Engine) -> None:
    found = [row["trial_number"] for row in asked(filled, "promotion_candidates")]
    assert found == [1, 0]
    assert asked(filled, "promotion_candidates", min_trades=43) == []
    (row,) = asked(filled, "promotion_candidates", min_sharpe=1.0, min_windows=2)
    assert (row["trial_number"], row["windows"], row["passed"]) == (1, 3, 2)
    (row,) = asked(filled, "promotion_candidates", min_sharpe=1.0, last_windows=2)
    assert (row["windows"], row["passed"], row["worst_sharpe"]) == (2, 2, 2.0)


def test_parameter_sets_agree_with_the_leaderboard_to_the_last_digit(filled: Engine) -> None:
    board = {row.trial_number: row for row in best_models(filled, STUDY)}
    with filled.connect() as conn:
        sets = conn.execute(text("SELECT * FROM parameter_sets")).mappings().all()
    assert {row["trial_number"] for row in sets} == set(board)
    for row in sets:
        best = board[row["trial_number"]]
        assert (row["median"], row["score_min"], row["score_max"], row["runs"]) == (
            best.score, best.score_min, best.score_max, best.runs,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["study_progress", "failures"])
def test_the_name_of_a_study_stands_for_its_phases(filled: Engine, name: str) -> None:
    assert [row[0] for row in run_query(filled, name, {"name": "btc"})[1]] == [STUDY]
    assert run_query(filled, name, {"name": "bt_"})[1] == []
    assert run_query(filled, name, {"name": "bt"})[1] == []


def in_shell(request: pytest.FixtureRequest, engine: Engine, name: str) -> str:
    """Return the output of the database's own shell for a query file, as CSV without a header."""
    file = QUERY_FILES / f"{name}.sql"
    if engine.dialect.name == "postgresql":
        server: Server = request.getfixturevalue("postgres_server")
        given = [f"name='{STUDY}'", *(f"{key}={value}" for key, value in LIMITS.items())]
        words = [word for variable in given for word in ("-v", variable)]
        return server.psql(str(engine.url.database), "--csv", "-t", *words, "-f", str(file))
    limits = [("name", f"\"'{STUDY}'\""), *LIMITS.items()]
    shell = subprocess.run(
        ["sqlite3", "-bail", "-csv", str(engine.url.database)],
        input="".join(f".param set :{key} {value}\n" for key, value in limits) + f".read {file}\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (shell.returncode, shell.stderr) == (0, "")
    return shell.stdout


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_a_query_file_runs_in_the_shell_of_the_database_too(
    request: pytest.FixtureRequest, filled: Engine, name: str
) -> None:
    if name == "nested":
        trade = f"{STUDY}.outer1.trade_ab"
        run_to_end(filled, 0, complete_outcome(0.5), study=trade)
        figures: dict[str, Any] = {
            "window": 1, "test_start": "2024-01-01", "test_end": "2024-02-01", "sessions": 23, "trials": 4,
            "score": 1.5, "sharpe": 0.5, "inner": f"{STUDY}.outer1",
        }  # fmt: skip
        with filled.begin() as conn:
            for cap, growth, trader in ((4, 0.2, "earlier"), (8, 0.1, trade)):
                traded = OuterWindowTraded(n_trials=cap, growth=growth, trader=trader, **figures)
                log_event(conn, STUDY, "traded", traded)
    printed = list(csv.reader(io.StringIO(in_shell(request, filled, name))))
    values = {"name": STUDY} | LIMITS
    columns, rows = run_query(filled, name, {key: values[key] for key in query_parameters(name)})
    assert name != "nested" or [row[-1] for row in rows] == [f"{STUDY}.outer1.trade_ab"]  # the newest one
    assert len(printed) == len(rows) > 0
    for words, row in zip(printed, rows, strict=True):
        assert [spelled(word) for word in words] == [spelled(value) for value in row], columns


def spelled(value: object) -> object:
    """Return a value rounded to the 15 digits that sqlite3 prints."""
    try:
        return float(f"{float(str(value)):.15g}")
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
    first, second, _ = best_models(filled, STUDY)
    assert (first.rank, first.trial_number, first.score, first.windows) == (1, 1, 1.5, 3)
    assert (first.window_sharpe_min, first.window_sharpe_median, first.window_sharpe_max) == (1.0, 2.0, 4.0)
    assert set(first.parameters) == {"net", "rate"}
    assert first.parameters["net"] in ("small", "medium", "large")
    assert (second.rank, second.window_sharpe_median) == (2, 0.5)
    assert [row.rank for row in best_models(filled, STUDY, limit=1)] == [1]
    assert best_models(filled, "absent") == []
    with pytest.raises(BadInputError, match="limit=0"):
        best_models(filled, STUDY, limit=0)


def test_the_leaderboard_has_every_digit_of_a_parameter(filled: Engine) -> None:
    exact = 0.14140530938763282  # the view has 15 digits of it
    parameters = text("UPDATE wf_runs SET parameters_json = :json WHERE trial_number = 1")
    with filled.begin() as conn:
        conn.execute(parameters, {"json": json.dumps({"rate": exact})})
    first = best_models(filled, STUDY)[0]
    assert first.parameters["rate"] == exact
    assert "net" in first.parameters  # of a run without the key, that of the view


def test_what_is_no_readable_file_among_the_queries_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.sql").write_text("-- my query\nSELECT 1", encoding="utf-8")
    (tmp_path / "broken.sql").write_bytes(b"\xff\xfe no text")
    (tmp_path / "folder.sql").mkdir()
    os.mkfifo(tmp_path / "pipe.sql")
    monkeypatch.setattr("optimize.results.queries.resources.files", lambda _: tmp_path)
    assert [name for name, _ in list_queries()] == ["broken", "mine"]
