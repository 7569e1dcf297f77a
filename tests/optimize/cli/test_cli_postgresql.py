"""Each verb that opens a database runs once on PostgreSQL; the other tests of verbs use SQLite."""

import json
from pathlib import Path

import pytest

from tests.optimize.bundles.in_process import replays_in_this_process
from tests.optimize.cli.conftest import Run
from tests.optimize.study.forks import run_verb
from tests.optimize.study.processes import said

TINY = ["debug=tiny", "data=synthetic", "data.synthetic.bars=1500", "agent.total_timesteps=256"]
SPACE = ["~space", "+space.agent.learning_rate={low:1e-4,high:1e-2,log:true}", "score.min_trades=0"]


@pytest.mark.slow
@pytest.mark.postgres
def test_every_verb_runs_on_postgresql(run: Run, postgres: str, tmp_path: Path) -> None:
    place = f"database.url={postgres}"

    def done(*words: str) -> str:
        code, out, err = run(*words, place)
        assert code == 0, (words, out, err)
        return out

    words = ["study", "name=a", "n_trials=1", "worker.count=1", place, *TINY, *SPACE]
    assert run_verb(tmp_path, *words) == 0, said(tmp_path)  # its connections end with its process
    assert "study a is at its cap" in said(tmp_path)
    assert "buy_and_hold" in done("leaderboard", "name=a")
    (status,) = json.loads(done("status", "name=a", "format=json"))["studies"]
    assert (status["complete"], status["cap"]) == (1, 1)
    assert len(json.loads(done("query", "sql=best_models", "name=a", "format=json"))) == 1
    with replays_in_this_process():
        assert "bit for bit" in done("export", "name=a", "top_n=1", "gate=none")
    assert "bit for bit" in done("replay", "name=a", "trial=0")
    opened = done("evaluate", "bundle=studies/a/exports/01_trial_0000", "span=holdout")
    assert "is opened for the 1st time" in opened
    assert "FAIL" not in done("doctor", "name=a")
    assert "there is nothing to pause" in done("study", "name=a", "action=pause")
    assert "a is at its cap" in done("worker", "name=a", "wait_s=0")


@pytest.mark.slow
@pytest.mark.postgres
def test_a_nested_study_is_listed_pruned_and_deleted_on_postgresql(
    run: Run, postgres: str, tmp_path: Path
) -> None:
    place = f"database.url={postgres}"

    def done(*words: str) -> str:
        code, out, err = run(*words, place)
        assert code == 0, (words, out, err)
        return out

    shape = ["nested=true", "nested_finalists=1", "nested_seeds=1", "window.count=2", "score.min_periods=2"]
    words = ["study", "name=a", "n_trials=2", "worker.count=1", place, *TINY, *SPACE, *shape]
    assert run_verb(tmp_path, *words) == 0, said(tmp_path)
    assert "nested walk-forward: a study of 2 trials" in done("leaderboard", "name=a")
    (row,) = json.loads(done("query", "sql=nested", "name=a", "format=json"))
    assert row["trade"].startswith("a.outer1.trade_")
    assert "freed" in done("prune", "name=a", "keep=1", "confirm=true")
    assert "a.outer1.trade_" in done("delete", "name=a")
    assert "removed a.outer1, a.outer1.trade_" in done("delete", "name=a", "confirm=true")
    code, _, err = run("delete", "name=a", "confirm=true", place)
    assert (code, "holds no such study" in err) == (2, True)
    assert {path.name for path in Path("studies").iterdir()} <= {"artifacts"}
