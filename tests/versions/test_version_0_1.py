"""A database, a study folder and a bundle of version 0.1 still serve: read, proven, resumed, exported.

v0_1.zip holds three trials of `study name=old debug=tiny agent.net=tiny feature.indicators=[returns,range]
feature.lookback=2 preflight=false score.min_trades=0 ~space +space.agent.learning_rate={low:1e-4,high:1e-2,
log:true} agent.n_steps=64 agent.batch_size=64 n_trials=3` and the bundle of `export name=old top_n=1`. Commit
b40a15e wrote both, on the embedded EURUSD bars; logs and the market's cache were left out.

v0_1_two.zip holds both phases of `study name=two phase=two debug=tiny agent.net=tiny score.min_trades=0
feature.indicators=[returns,range] preflight=false phase.timeframe.timeframes=[4h] phase.timeframe.n_trials=4
phase.timeframe.lookbacks=[1,2] agent.batch_size=64 agent.n_steps=64 n_trials=2 worker.count=1 keep_models=1`
with WHOLE_SPACE below, by the same commit; weights, trades and curves of phase 1 were left out.
"""

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from optimize.bundles.load import load_bundle
from tests.optimize.bundles.in_process import replays_in_this_process
from tests.optimize.study.forks import run_verb
from tests.optimize.study.processes import SAID, said

ARCHIVE = Path(__file__).with_name("v0_1.zip")
TWO_PHASES = Path(__file__).with_name("v0_1_two.zip")
WHOLE_SPACE = (
    "~space",
    "+space={reward: {name: [net_log_return, drawdown_penalised]}, agent: {gamma: {low: 0.9, high: 0.99, "
    "when: {reward.name: [drawdown_penalised]}}, n_steps: [64]}}",
)
SCORES = [-8.352004, -8.624359, -11.510855]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    with zipfile.ZipFile(TWO_PHASES) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def walkforge(folder: Path, *words: str) -> str:
    """Run `walkforge VERB ...` in a fork of this process and return its output."""
    (folder / SAID).unlink(missing_ok=True)
    code = run_verb(folder, *words)
    assert code == 0, said(folder)
    return said(folder)


def scores_of(folder: Path, query: str) -> list[float]:
    with closing(sqlite3.connect(folder / "databases" / "walkforge.db")) as conn:
        return [score for (score,) in conn.execute(query)]


def best_models(folder: Path) -> list[float]:
    return scores_of(folder, "SELECT score FROM best_models WHERE study_name = 'old' ORDER BY score DESC")


@pytest.mark.slow
def test_a_study_is_read_resumed_and_exported(old: Path) -> None:
    assert "-8.35" in walkforge(old, "leaderboard", "name=old")
    (status,) = json.loads(walkforge(old, "status", "name=old", "format=json"))["studies"]
    assert (status["complete"], status["cap"]) == (3, 3)
    walkforge(old, "study", "name=old", "n_trials=4")
    scores = best_models(old)
    assert len(scores) == 4
    assert {round(score, 6) for score in scores} >= set(SCORES)
    assert "bit for bit" in walkforge(old, "export", "name=old", "top_n=2", "gate=none")
    assert "FAIL" not in walkforge(old, "doctor", "name=old")


@pytest.mark.slow
def test_a_bundle_replays_and_acts(old: Path) -> None:
    folder = old / "studies" / "old" / "exports" / "01_trial_0000"
    assert "bit for bit" in walkforge(old, "replay", f"bundle={folder}")
    bundle = load_bundle(folder)
    assert bundle.manifest.score == pytest.approx(SCORES[0], abs=1e-6)
    assert [order.symbol for order in bundle.act().orders] == ["EURUSD"]


@pytest.mark.slow
def test_both_phases_and_a_space_with_conditions_are_read_resumed_exported_and_replayed(two: Path) -> None:
    of_model = "SELECT score FROM wf_runs WHERE study_name = 'two.model' ORDER BY trial_number"
    scores = scores_of(two, of_model)
    assert [round(score, 6) for score in scores] == [-5.112484, -4.397598]
    assert "-4.40" in walkforge(two, "leaderboard", "name=two")
    walkforge(two, "study", "name=two", "n_trials=3")
    walkforge(two, "study", "name=two", "phase=two", *WHOLE_SPACE, "n_trials=4")
    now = scores_of(two, of_model)
    assert (len(now), now[:2]) == (4, scores)
    with replays_in_this_process():
        assert "bit for bit" in walkforge(two, "export", "name=two", "top_n=1", "gate=none")
    (bundle,) = (two / "studies" / "two.model" / "exports").glob("01_*")
    assert "bit for bit" in walkforge(two, "replay", f"bundle={bundle}")
    assert "FAIL" not in walkforge(two, "doctor", "name=two")
