"""A study on a random walk ends as luck: its board reads so, and no gate on luck lets a trial through."""

import pytest

from tests.optimize.cli.conftest import Run

STUDY = (
    "name=walk", "n_trials=12", "preflight=false", "worker.count=1", "data=synthetic",
    "data.synthetic.bars=4000", "window.count=3", "agent.total_timesteps=4096",
)  # fmt: skip


@pytest.mark.slow
def test_agents_on_a_random_walk_are_luck_and_none_is_exported(run: Run) -> None:
    assert run("study", *STUDY)[0] == 0
    code, board, _ = run("leaderboard", "name=walk")
    assert code == 0
    assert "verdict: LUCK: trial " in board
    assert "is no evidence of skill: after 12 tries chance alone would show +" in board
    assert "against buy-and-hold: LUCK" in board
    ranked = board.count("  rank ") - 1  # less the head of the table
    assert ranked > 3
    code, out, said = run("export", "name=walk", "min_selection_score=null")
    assert (code, out) == (1, "")
    assert said.count(" is refused by max_luck_p=0.05: chance alone shows such a score in ") == ranked
    assert "no trial of walk passes the gates" in said
    assert run("export", "name=walk")[0] == 1
