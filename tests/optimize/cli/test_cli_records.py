import csv
import io
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from envs.plain import to_plain
from optimize import clock
from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.report import tables
from optimize.report.format import number, percent, share
from optimize.report.tables import Column, duration, show
from optimize.results import leases
from optimize.results.creation import create_tables
from optimize.results.event_log import log_event
from optimize.results.events import LaunchEvent, Progress
from optimize.results.leases import acquire
from optimize.results.processes import identity
from optimize.results.queries import best_models as best_rows
from optimize.results.records import (
    BaselineRecord,
    Outcome,
    save_baselines,
    save_study,
)
from optimize.results.states import RunState
from optimize.results.timeframe_verdict import Combination, Verdict, record_evidence
from optimize.results.views import create_views
from optimize.search.storage import open_storage
from optimize.study.spec import StudySpec
from tests.optimize.cli.conftest import Run
from tests.optimize.results.factories import STUDY, make_study, run_to_end


def test_the_leaderboard_says_what_its_score_is(run: Run, filled: str) -> None:
    code, out, err = run("leaderboard", "name=btc", filled)
    assert (code, err) == (0, "")
    assert "lower median" not in out  # of one run each
    for words in (STUDY, "+1.50", "+1.00 / +2.00 / +4.00", "buy_and_hold", "learning_rate=", "Sharpe ratio"):
        assert words in out
    assert "net of all costs" in out
    assert "2 trials in btc.model (2 complete, 0 pruned)" in out


def test_the_leaderboard_of_a_debug_run_says_that_its_scores_mean_nothing(run: Run, filled: str) -> None:
    assert "mean nothing" not in run("leaderboard", "name=btc", filled)[1]
    engine = open_engine(filled.partition("=")[2])
    launch = LaunchEvent(Progress.PASSED, "host", 1, 1.0, ("name=btc", "debug=tiny"))
    with engine.begin() as conn:
        log_event(conn, STUDY, "study passed", launch)
    engine.dispose()
    out = run("leaderboard", "name=btc", filled)[1]
    assert "the study was cut down by debug=tiny: its scores mean nothing" in out.splitlines()


def test_the_leaderboard_of_a_study_at_its_cap_without_a_score_says_why(run: Run, database_url: str) -> None:
    engine = open_engine(database_url)
    create_tables(engine)
    storage = open_storage(database_url)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    create_views(engine)
    with engine.begin() as conn:
        save_study(conn, replace(make_study(), spec=to_plain(StudySpec(name=STUDY)), n_trials=2))
    for trial in range(2):
        study.ask()
        run_to_end(engine, trial, Outcome(RunState.PRUNED, 1.0, reason="min_trades"))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    storage.engine.dispose()
    engine.dispose()
    out = run("leaderboard", "name=btc", f"database.url={database_url}")[1]
    assert out.startswith(
        "btc.model has no feasible trial, so there is nothing to export; of 2 finished: 2 PRUNED"
    )


def test_the_legend_names_the_median_where_a_set_has_several_runs(
    run: Run, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(filled.partition("=")[2])
    rows = [replace(row, runs=3) for row in best_rows(engine, STUDY, 2)]
    engine.dispose()
    monkeypatch.setattr("optimize.cli.leaderboard.best_rows", lambda *_: rows)
    monkeypatch.setenv("COLUMNS", "300")
    shown = run("leaderboard", "name=btc", filled)[1]
    assert "; score = lower median of the runs of a parameter set" in shown
    first = next(line.split() for line in shown.splitlines() if line.strip().startswith("1       1"))
    assert first[-5:] == ["3", "+1.50", "-", "single", "seed"]  # runs, mean, deviation, seeds


def test_tables_off_a_terminal_keep_to_columns(
    run: Run, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = run("leaderboard", "name=btc", filled)[1].partition("rank 1 (trial")[0]
    assert max(map(len, table.splitlines()[1:])) <= 80
    monkeypatch.delenv("COLUMNS")
    table = run("leaderboard", "name=btc", filled)[1].partition("rank 1 (trial")[0]
    lines = [line for line in table.splitlines()[1:] if not line.startswith("left out of")]
    assert 80 < max(map(len, lines)) <= 120
    (left,) = [line for line in table.splitlines() if line.startswith("left out of 120 columns: ")]
    assert "trades, exposure, buy_and_hold, linear probe; COLUMNS=200 " in left


def test_the_leaderboard_speaks_csv_and_json(run: Run, filled: str) -> None:
    rows = json.loads(run("leaderboard", "name=btc", "format=json", filled)[1])
    assert [row["score"] for row in rows] == [1.5, 0.5]
    assert isinstance(rows[0]["parameters"], dict)
    lines = list(csv.DictReader(io.StringIO(run("leaderboard", "name=btc", "format=csv", filled)[1])))
    assert [float(line["score"]) for line in lines] == [1.5, 0.5]
    assert json.loads(lines[0]["parameters"]) == rows[0]["parameters"]


def test_rows_are_written_as_parquet_to_a_named_file(run: Run, filled: str, tmp_path: Path) -> None:
    rows = json.loads(run("leaderboard", "name=btc", "format=json", filled)[1])
    code, out, err = run("leaderboard", "name=btc", "format=parquet", "file=board.parquet", filled)
    assert (code, out, err) == (0, "board.parquet: 2 rows\n", "")
    table = pq.read_table(tmp_path / "board.parquet")
    assert table["score"].to_pylist() == [row["score"] for row in rows]
    assert json.loads(table["parameters"][0].as_py()) == rows[0]["parameters"]
    assert run("query", "sql=failures", "name=btc", "format=parquet", "file=f.parquet", filled)[0] == 0
    assert pq.read_table(tmp_path / "f.parquet")["failures"].to_pylist() == [1]
    for words, named in (
        (("format=parquet",), "file=None is not allowed: file must be the path of a file to write"),
        (("file=b.csv",), "file='b.csv' is not allowed: file must be null unless format=parquet"),
        (("format=parquet", "file=no/b.parquet"), "file='no/b.parquet' cannot be written"),
    ):
        code, out, err = run("leaderboard", "name=btc", *words, filled)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert named in err


def test_a_parameter_that_a_query_does_not_take_is_refused(run: Run, filled: str) -> None:
    code, _, err = run("query", "sql=best_models", "name=btc", "min_sharpe=1", filled)
    assert (code, err) == (2, "walkforge: min_sharpe=1.0: sql=best_models does not take it, only name\n")
    found = run("query", "sql=promotion_candidates", "name=btc", "min_sharpe=0.75", "format=json", filled)[1]
    assert [row["trial_number"] for row in json.loads(found)] == [1]


def test_the_leaderboard_says_how_much_time_and_which_market_stand_behind_it(
    run: Run, filled: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("leaderboard", "name=btc", filled)
    assert (code, err) == (0, "")
    assert "; 3 test windows\n" in out  # a record without baselines
    hold = baseline("buy_and_hold", 2.0, sessions=[["2024-01-02", "2024-01-03"], ["2024-01-04"]], anew=True)
    engine = open_engine(database_url)
    with engine.begin() as conn:
        save_baselines(conn, [baseline("flat", None), hold])
    engine.dispose()
    monkeypatch.setenv("COLUMNS", "250")
    out = run("leaderboard", "name=btc", filled)[1]
    for words in (
        "; 3 test windows with 3 sessions in all",
        "at the same costs (bought anew each session, as sessions end flat)",
        "cost: commission, slippage and financing, in % of what a window starts with",
        "no trial beats the baseline buy_and_hold (bought anew each session): nothing here is worth trading",
        "  rank 1 (trial 1): learning_rate=",
    ):
        assert words in out
    lines = out.replace("above random", "above_random").splitlines()
    heading, values, *_ = (line.split() for line in lines if line.split()[:1] in (["rank"], ["1"]))
    assert heading.index("exposure") - len(heading) == values.index("0.50") - len(values)


def test_a_leaderboard_that_fails_shows_no_part_of_itself(
    run: Run, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BadInputError("database.url: away")

    monkeypatch.setattr("optimize.cli.leaderboard.load_baselines", away)
    assert run("leaderboard", "name=btc", filled) == (2, "", "walkforge: database.url: away\n")


def test_the_leaderboard_of_a_timeframe_phase_shows_what_was_kept_and_why(
    run: Run, filled: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    pairs = (
        Combination("1h", 4, 2, 2, (-0.5, 0.5), 0.0, 0.5, 0.02),
        Combination("4h", 4, 2, 2, (2.0, 3.0), 2.5, 0.5, 1.0, kept=True),
        Combination("4h", 8, 2, 0, reason="0 of 2 trials have a score, 2 are needed (min_trades 2)"),
    )
    engine = open_engine(database_url)
    evidence = Verdict(STUDY, "0" * 64, "a rule", 0.9, 1000, 2, 40, 0.1, pairs, ("4h",), (4,))
    record_evidence(engine, evidence, "4h is better")
    engine.dispose()
    out = run("leaderboard", "name=btc", filled)[1]
    table = [line.strip() for line in out.splitlines() if line.split()[:1] in (["1h"], ["4h"])]
    assert table.pop(0).startswith("4h ")  # the conclusion, before the figures
    assert [line.split()[:2] for line in table[:3]] == [["4h", "4"], ["1h", "4"], ["4h", "8"]]
    assert table[0].split()[-6:] == ["of", "2", "+2.50", "0.50", "1.000", "kept"]
    assert table[1].split()[-1] == "dropped"
    assert table[2].endswith("not compared: 0 of 2 trials have a score, 2 are needed (min_trades 2)")
    assert "4h is better than every other timeframe (1 of 3 combinations is kept)" in out
    assert "kept: where p is above 0.1" in out
    assert "rule: a rule; 90 % confidence, 40 sessions" in out
    told = json.loads(run("leaderboard", "name=btc", "format=json", filled)[1])
    assert [row["score"] for row in told["rows"]] == [1.5, 0.5]
    assert [(pair["timeframe"], pair["kept"]) for pair in told["evidence"]["combinations"]] == [
        ("1h", False),
        ("4h", True),
        ("4h", False),
    ]
    assert (told["evidence"]["timeframes"], told["evidence"]["rule"]) == (["4h"], "a rule")
    assert len(run("leaderboard", "name=btc", "format=csv", filled)[1].splitlines()) == 3


def baseline(
    name: str, score: float | None, sessions: Sequence[Sequence[str]] = (), anew: bool = False
) -> BaselineRecord:
    windows = {"sessions": sessions, "returns": [], "bought_anew": anew} if sessions else None
    return BaselineRecord(STUDY, "1h", name, score, score, 0.1, 0.01, 1.0, windows)


def test_a_wrong_query_is_named_before_a_missing_study(run: Run) -> None:
    code, _, err = run("query", "sql=nope")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("walkforge: sql='nope' is not a query of this package: choose one of best_models,")


def test_a_query_shows_parameters_in_short_and_gives_them_whole_to_machines(run: Run, filled: str) -> None:
    shown = run("query", "sql=best_models", "name=btc", filled)[1]
    assert " learning_rate=" in shown
    assert "agent.learning_rate" not in shown
    assert "agent.learning_rate" in run("query", "sql=best_models", "name=btc", "format=json", filled)[1]


def test_queries_are_listed_and_run_under_either_name(run: Run, filled: str) -> None:
    assert "best_models" in run("query")[1]
    typed, full = (
        run("query", "sql=best_models", f"name={name}", "format=json", filled)[1] for name in ("btc", STUDY)
    )
    assert len(json.loads(typed)) == 2
    assert typed == full
    assert "out of memory" in run("query", "sql=failures", "name=btc", filled)[1]


def test_status_counts_and_names_live_workers_only(
    run: Run, filled: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(database_url)
    now = clock.now().timestamp()
    ended = subprocess.Popen(["true"])
    gone = identity(ended.pid)  # there until it is waited for
    ended.wait()
    with engine.begin() as conn:
        acquire(conn, STUDY, 3, worker=0, lease_s=60.0, now=now - 5)
        acquire(conn, STUDY, 5, worker=2, lease_s=60.0, now=now - 600)
        monkeypatch.setattr(leases, "identity", lambda: gone)
        acquire(conn, STUDY, 4, worker=1, lease_s=60.0, now=now - 5)
    engine.dispose()
    (study,) = json.loads(run("status", "name=btc", "format=json", filled)[1])["studies"]
    counts = {
        key: study[key] for key in ("name", "cap", "complete", "pruned", "running", "failed", "remaining")
    }
    assert counts == {
        "name": STUDY, "cap": 8, "complete": 2, "pruned": 0, "running": 0, "failed": 1, "remaining": 6,
    }  # fmt: skip
    assert study["failures"] == {"oom": 1}
    live, lost, late = study["workers"]
    assert (live["pid"], live["alive"], live["trial"]) == (psutil.Process().pid, True, 3)
    assert 4 <= live["renewed_s_ago"] <= 60
    assert (lost["pid"], lost["alive"], lost["trial"]) == (None, False, 4)
    assert (late["alive"], late["trial"]) == (True, 5)  # on its own machine the process counts, not the clock
    assert study["eta_s"] > 0


def test_status_reads_well(run: Run, filled: str) -> None:
    code, out, _ = run("status", "name=btc", filled)
    assert code == 0
    for words in (STUDY, "1 oom", "no process runs trials of btc.model now"):
        assert words in out


def test_reading_creates_no_files(run: Run, filled: str, tmp_path: Path) -> None:
    run("leaderboard", "name=btc", filled)
    assert not (tmp_path / "databases").exists()
    assert not (tmp_path / "studies").exists()


def test_numbers_are_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "make_console", lambda: Console(width=20))
    row = {f"key{i}": 12345.678 + i for i in range(8)}
    show([row], [Column(key, key, number(3)) for key in row], "table")
    out = capsys.readouterr().out
    assert all(f"{value:.3f}" in out for value in row.values())


@pytest.mark.parametrize("width", [80, 120, 1000])
def test_no_table_of_the_leaderboard_is_wider_than_the_terminal(
    width: int, run: Run, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = run("leaderboard", "name=btc", filled)[1]
    headings = [line for line in out.splitlines() if line.split()[:1] == ["rank"] and "(trial" not in line]
    assert len(headings) == {80: 4, 120: 2, 1000: 1}[width]
    table = out[: out.index("  rank 1 (trial")].splitlines()[1:]
    assert max(map(len, table)) <= width
    assert "+1.00 / +2.00 / +4.00" in out


def test_without_a_name_every_study_has_a_line(run: Run, filled: str) -> None:
    code, out, err = run("leaderboard", filled)
    assert (code, err) == (0, "")
    assert f"best of study {STUDY}" in out  # the only one
    listed = run("status", filled)[1]
    assert STUDY in listed


def test_headings_give_way_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = [Column("a", "the longest heading"), Column("b", "another heading")]
    widths = []
    for width in (60, 30):
        monkeypatch.setattr(tables, "make_console", lambda width=width: Console(width=width))
        show([{"a": "-2.96 / +1.25", "b": "12.5"}], columns, "table")
        out = capsys.readouterr().out
        assert "-2.96 / +1.25" in out
        assert ("the longest heading" in out) == (width == 60)
        widths.append(max(map(len, out.splitlines())))
    assert widths[1] <= 30


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"a": float("inf"), "b": [float("nan"), 1.0]}], [], "json")
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 1.0]}]


def test_values_are_written_in_words() -> None:
    assert [duration(seconds) for seconds in (None, 5, 65, 3700, 90000)] == [
        "-", "5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h",
    ]  # fmt: skip
    assert (percent(0.123), percent(None), share(0.0321), share(0.00001)) == ("+12.3%", "-", "3.2%", "0.001%")


def test_a_table_wider_than_the_terminal_cuts_no_digit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "make_console", lambda: Console(width=20))
    row = {"a": "-2.96 / +1.25 / +3.00", "b": "+14.80"}
    tables.show([row], [tables.Column(key, key) for key in row], "table")
    out = capsys.readouterr().out
    assert row["a"] in out
    assert row["b"] in out
