import csv
import io
import json
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from optimize import clock
from optimize.cli import tables
from optimize.cli.tables import Column, duration, number, percent, share, show
from optimize.database import open_engine
from optimize.results.leases import acquire
from tests.optimize.cli.conftest import Run
from tests.optimize.results.factories import STUDY


def test_the_leaderboard_says_what_its_score_is(run: Run, filled: str) -> None:
    code, out, err = run("leaderboard", "name=btc", filled)
    assert (code, err) == (0, "")
    for words in (STUDY, "+1.50", "+1.00 / +2.00 / +4.00", "buy & hold", "learning_rate=", "Sharpe ratio"):
        assert words in out
    assert "net of all costs" in out
    assert "2 trials in btc.model (2 complete, 0 pruned)" in out


def test_the_leaderboard_speaks_csv_and_json(run: Run, filled: str) -> None:
    rows = json.loads(run("leaderboard", "name=btc", "format=json", filled)[1])
    assert [row["score"] for row in rows] == [1.5, 0.5]
    assert isinstance(rows[0]["parameters"], dict)
    lines = list(csv.DictReader(io.StringIO(run("leaderboard", "name=btc", "format=csv", filled)[1])))
    assert [float(line["score"]) for line in lines] == [1.5, 0.5]
    assert json.loads(lines[0]["parameters"]) == rows[0]["parameters"]


def test_queries_are_listed_and_run_under_either_name(run: Run, filled: str) -> None:
    assert "best_models" in run("query")[1]
    typed, full = (
        run("query", "sql=best_models", f"name={name}", "format=json", filled)[1] for name in ("btc", STUDY)
    )
    assert len(json.loads(typed)) == 2
    assert typed == full
    assert "out of memory" in run("query", "sql=failures", "name=btc", filled)[1]


def test_status_counts_and_names_live_workers_only(run: Run, filled: str, database_url: str) -> None:
    engine = open_engine(database_url)
    now = clock.now().timestamp()
    with engine.begin() as conn:
        acquire(conn, STUDY, 3, worker=0, lease_s=60.0, now=now - 5)
        acquire(conn, STUDY, 4, worker=1, lease_s=60.0, now=now - 600)
    engine.dispose()
    (study,) = json.loads(run("status", "name=btc", "format=json", filled)[1])["studies"]
    counts = {
        key: study[key] for key in ("name", "cap", "complete", "pruned", "running", "failed", "remaining")
    }
    assert counts == {
        "name": STUDY, "cap": 8, "complete": 2, "pruned": 0, "running": 0, "failed": 1, "remaining": 6,
    }  # fmt: skip
    assert study["failures"] == {"oom": 1}
    live, lost = study["workers"]
    assert (live["pid"], live["alive"], live["trial"]) == (psutil.Process().pid, True, 3)
    assert 4 <= live["renewed_s_ago"] <= 60
    assert (lost["pid"], lost["alive"], lost["trial"]) == (None, False, 4)
    assert study["eta_s"] > 0


def test_status_reads_well(run: Run, filled: str) -> None:
    code, out, _ = run("status", "name=btc", filled)
    assert code == 0
    for words in (STUDY, "1 oom", "nobody works on btc.model now"):
        assert words in out


def test_reading_creates_no_files(run: Run, filled: str, tmp_path: Path) -> None:
    run("leaderboard", "name=btc", filled)
    assert not (tmp_path / "databases").exists()
    assert not (tmp_path / "studies").exists()


def test_numbers_are_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "make_console", lambda: Console(width=20))
    row = {f"key{i}": 12345.678 for i in range(8)}
    show([row], [Column(key, key, number(3)) for key in row], "table")
    assert capsys.readouterr().out.count("12345.678") == 8


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
