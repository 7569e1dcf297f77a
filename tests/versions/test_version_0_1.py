"""A database, a study folder and a bundle of version 0.1 still serve: read, proven, resumed, exported.

v0_1.zip holds three trials of `study name=old debug=tiny agent.net=tiny feature.indicators=[returns,range]
feature.lookback=2 preflight=false score.min_trades=0 ~space +space.agent.learning_rate={low:1e-4,high:1e-2,
log:true} agent.n_steps=64 agent.batch_size=64 n_trials=3` and the bundle of `export name=old top_n=1`. Commit
b40a15e wrote both, on the embedded EURUSD bars; logs and the market's cache were left out.
"""

import json
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from optimize.study.export.deployed import load_bundle

ARCHIVE = Path(__file__).with_name("v0_1.zip")
SCORES = [-8.352004, -8.624359, -11.510855]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def walkforge(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "optimize", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def best_models(folder: Path) -> list[float]:
    with closing(sqlite3.connect(folder / "databases" / "walkforge.db")) as conn:
        query = "SELECT score FROM best_models WHERE study_name = 'old' ORDER BY score DESC"
        return [score for (score,) in conn.execute(query)]


@pytest.mark.slow
def test_a_study_is_read_resumed_and_exported(old: Path) -> None:
    assert "-8.35" in walkforge(old, "leaderboard", "name=old")
    (status,) = json.loads(walkforge(old, "status", "name=old", "format=json"))["studies"]
    assert (status["complete"], status["cap"]) == (3, 3)
    walkforge(old, "study", "name=old", "n_trials=4")
    scores = best_models(old)
    assert len(scores) == 4
    assert {round(score, 6) for score in scores} >= set(SCORES)
    assert "bit for bit" in walkforge(old, "export", "name=old", "top_n=2")
    assert "FAIL" not in walkforge(old, "doctor", "name=old")


@pytest.mark.slow
def test_a_bundle_replays_and_acts(old: Path) -> None:
    folder = old / "studies" / "old" / "exports" / "01_trial_0000"
    assert "bit for bit" in walkforge(old, "replay", f"bundle={folder}")
    bundle = load_bundle(folder)
    assert bundle.manifest.score == pytest.approx(SCORES[0], abs=1e-6)
    assert [order.symbol for order in bundle.act().orders] == ["EURUSD"]
