import json
from pathlib import Path

import pytest

from tests.optimize.cli.conftest import Run

TINY = ["name=probe", "debug=tiny", "data=synthetic", "data.synthetic.bars=1500", "agent.total_timesteps=256"]


def test_a_dry_run_shows_the_windows_and_trains_nothing(run: Run, tmp_path: Path) -> None:
    code, out, err = run("walk-forward", "name=probe", "dry_run=true")
    assert (code, err) == (0, "")
    for words in (
        "4 windows",
        "2017-05-17 .. 2017-06-29",
        "purged bars",
        "holdout: 2017-11-07",
        "nothing was",
    ):
        assert words in out
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_one_configuration_is_evaluated_beside_its_baselines(
    run: Run, tmp_path: Path, deterministic: str
) -> None:
    code, out, err = run("walk-forward", *TINY, "score.min_trades=0", f"deterministic={deterministic}")
    assert (code, err) == (0, "")
    for words in ("window 1 of 2", "no-cost Sharpe", "flat", "buy and hold", "random", "net of all costs"):
        assert words in out
    folder = tmp_path / "studies" / "probe" / "walk_forward"
    assert (folder / "windows" / "1" / "repeat_0" / "policy.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"] == "probe"
    assert [path.name for path in folder.parent.iterdir()] == ["walk_forward"]


def test_the_same_seed_comes_to_the_same_score(run: Run) -> None:
    first, second = (run("walk-forward", *TINY, "score.min_trades=0")[1] for _ in range(2))
    assert _scores(first) == _scores(second)


def test_no_score_is_exit_code_1_with_the_reason(run: Run) -> None:
    code, out, _ = run("walk-forward", *TINY, "score.min_trades=100000")
    assert code == 1
    assert "no score: min_trades" in out


def test_a_folder_that_is_no_bundle_is_refused(run: Run) -> None:
    code, _, err = run("walk-forward", "model=nothing")
    assert code == 2
    assert err.count("\n") == 1


def _scores(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.strip().startswith("ppo")]
