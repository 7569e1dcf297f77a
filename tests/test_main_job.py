"""The main job as a user runs it: study, leaderboard, export, replay, and again without a change."""

import io
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import optuna
import pytest

from optimize.cli import main
from optimize.hashing import hash_file
from tests.optimize.study.forks import run_verb
from tests.optimize.study.processes import said

SQL = """
SELECT COUNT(*), MAX(value) FROM trials t JOIN trial_values v ON t.trial_id = v.trial_id
WHERE t.state = 'COMPLETE' AND t.study_id = (SELECT study_id FROM studies WHERE study_name = ?)
"""

BEST = "SELECT trial_number, score FROM best_models WHERE study_name = ? ORDER BY score DESC"


QUICKSTART = ("experiment=quickstart", "debug=tiny", "n_trials=3", "worker.count=2")


def walkforge(folder: Path, *arguments: str) -> str:
    """Run a command as a user does; it must leave nothing in the folder for temporary files."""
    with tempfile.TemporaryDirectory() as scratch:  # not beside the folder: sockets need a short path
        ran = subprocess.run(
            [sys.executable, "-m", "optimize", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200", "TMPDIR": scratch},
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert not os.listdir(scratch)
    return ran.stdout


def walkforge_forked(folder: Path, *arguments: str) -> None:
    """Run a command in a fork, which loads nothing anew; it too must leave no temporary file."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", scratch)
        patch.setattr(tempfile, "tempdir", None)
        assert run_verb(folder, *arguments) == 0, said(folder)
        assert not os.listdir(scratch)


def walkforge_here(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run a command in this process, where the start of one proves nothing more."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["walkforge"])
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(list(arguments)) == 0
    return out.getvalue()


def files(folder: Path) -> dict[str, tuple[int, str]]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.stat().st_mtime_ns, hash_file(path)) for path in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    # Three trials in the model phase and windows long enough for trades, so that there is a best one.
    walkforge(folder, "study", *QUICKSTART)
    walkforge_forked(folder, "export", "name=quickstart", "top_n=2", "gate=none")
    return folder


def test_the_leaderboard_names_score_spread_costs_and_buy_and_hold(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = walkforge_here(finished, monkeypatch, "leaderboard", "name=quickstart")
    for word in ("score", "windows min/med/max", "cost", "buy_and_hold"):
        assert word in shown


def test_sql_optuna_and_best_models_agree(finished: Path) -> None:
    url = "sqlite:///" + str(finished / "databases/walkforge.db")
    study = optuna.load_study(study_name="quickstart.model", storage=url)
    with sqlite3.connect(finished / "databases/walkforge.db") as conn:
        count, best = conn.execute(SQL, ["quickstart.model"]).fetchone()
        rows = conn.execute(BEST, ["quickstart.model"]).fetchall()
    conn.close()
    assert count == len(rows) > 0
    assert rows[0] == (study.best_trial.number, study.best_value)
    assert best == study.best_value


def test_a_second_run_adds_no_trial_and_changes_no_bundle(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = finished / "studies/quickstart.model/exports"
    before, trials = files(exports), trial_rows(finished)
    assert before
    assert "nothing to run" in walkforge_here(finished, monkeypatch, "study", *QUICKSTART)
    assert "unchanged" in walkforge_here(
        finished, monkeypatch, "export", "name=quickstart", "top_n=2", "gate=none"
    )
    assert files(exports) == before
    assert trial_rows(finished) == trials


def test_a_bundle_replays_without_the_database(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = next((finished / "studies/quickstart.model/exports").glob("01_*"))
    assert "bit for bit" in walkforge_here(tmp_path, monkeypatch, "replay", f"bundle={bundle}")
    assert not list(tmp_path.iterdir())


def test_status_is_readable_by_machines(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = json.loads(walkforge_here(finished, monkeypatch, "status", "name=quickstart", "format=json"))[
        "studies"
    ]
    assert [study["name"] for study in studies] == ["quickstart.timeframe", "quickstart.model"]
    assert all(study["remaining"] == 0 for study in studies)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["sac", "dqn"])
def test_every_agent_runs_a_study(tmp_path: Path, agent: str) -> None:
    tiny = (f"name={agent}", f"agent={agent}", "debug=tiny", "agent.n_envs=1", "n_trials=1")
    assert run_verb(tmp_path, "study", *tiny) == 0, said(tmp_path)
    assert f"study {agent} is at its cap" in said(tmp_path)


@pytest.mark.slow
def test_the_real_size_runs_tiny(tmp_path: Path) -> None:
    """Its own timeframe, 1h, is none of those searched: the evidence of phase 1 must hold all the same."""
    grid = "phase.timeframe.timeframes=[2h,4h]"
    tiny = ("experiment=two_phase", "debug=tiny", "data=synthetic", "n_trials=1", grid)
    assert run_verb(tmp_path, "study", *tiny) == 0, said(tmp_path)
    assert "study two_phase.model is at its cap" in said(tmp_path)


def trial_rows(folder: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "databases/walkforge.db") as conn:
        rows = conn.execute("SELECT trial_id, number, state, datetime_complete FROM trials").fetchall()
    conn.close()
    return rows
