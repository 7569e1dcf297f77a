"""The examples of docs/extending.md: two workers with features, rewards and agents of the user's own."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.optimize.study.forks import run_verb
from tests.optimize.study.processes import SAID, said

GUIDE = Path(__file__).parents[3] / "docs" / "extending.md"
FILES = ("my_features.py", "my_wave.py", "my_forecaster.py", "my_rewards.py", "my_agents.py")
NAMES = (
    "name=mine", f"extensions=[{','.join(FILES)}]",
    "feature.indicators=[returns]", "feature.forecast=reversal", "feature.forecast_alone=false",
    "reward.name=loss_averse", "agent.name=cautious_ppo", "debug=tiny",
    "data=synthetic",
    "data.synthetic.bars=1500", "n_trials=4", "worker.count=2", "sampler=grid",
    "preflight=false", "agent.total_timesteps=128", "score.min_trades=0", "score.min_volatility=0.0",
    "~space",
    "+space.feature.indicators=[[returns],[returns,momentum_12]]", "session.calendar=24/7",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds the files of the guide."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where named code is remembered
    folder = tmp_path / "home"
    folder.mkdir()
    named = re.findall(r"```python\n(# (\w+\.py)\n.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert [name for _, name in named] == [*FILES]
    for text, name in named:
        (folder / name).write_text(text)
    return folder


def walkforge(folder: Path, *arguments: str, well: bool = True) -> str:
    """Run `walkforge VERB ...` in a fork of this process and return its output."""
    (folder / SAID).unlink(missing_ok=True)
    code = run_verb(folder, *arguments)
    assert (code == 0) == well, said(folder)
    return said(folder)


def study_in_a_new_process(folder: Path) -> None:
    """Run the study in a process whose workers import the extensions anew."""
    command = [sys.executable, "-m", "optimize", "study", *NAMES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_of_the_guide_is_searched_exported_and_replayed(home: Path, tmp_path: Path) -> None:
    example = home / "my_features.py"
    study_in_a_new_process(home)
    board = json.loads(walkforge(home, "leaderboard", "name=mine", "format=json"))
    sets = {json.dumps(row["parameters"]["feature.indicators"]) for row in board}
    assert sets == {'["returns"]', '["returns", "momentum_12"]'}
    exported = walkforge(home, "export", "name=mine", "top_n=2", "gate=none")
    bundles = sorted((home / "studies" / "mine" / "exports").glob("*/"))
    carrying = next(path for path in bundles if "momentum_12" in (path / "config.json").read_text())
    assert any(
        line.startswith("  walkforge replay") and line.endswith(" trust=true")
        for line in exported.splitlines()
    )
    assert "walkforge replay bundle=. trust=true" in (carrying / "CARD.md").read_text(encoding="utf-8")
    written = json.loads((carrying / "manifest.json").read_text(encoding="utf-8"))["versions"]["code"]
    assert all(f"{name}:" in written for name in FILES)  # the content of every file belongs to the run
    number = int(carrying.name.rpartition("_")[2])
    assert "bit for bit" in walkforge(home, "replay", "name=mine", f"trial={number}")
    away = tmp_path / "away"
    shutil.copytree(carrying, away / "bundle")
    example.rename(away / "other_place.txt")
    assert "trust=true" in walkforge(away, "replay", "bundle=bundle", well=False)
    assert "bit for bit" in walkforge(away, "replay", "bundle=bundle", "trust=true")
    assert "no file" in walkforge(home, "replay", "name=mine", f"trial={number}", well=False)
    (away / "other_place.txt").rename(example)
    example.write_text(example.read_text().replace("logs[:-12]", "logs[11:-1]"))
    refused = walkforge(
        home, "study", *(word.replace("n_trials=4", "n_trials=5") for word in NAMES), well=False
    )
    assert "the code of my_features.py changed since it was launched" in refused
    assert "differs when it is trained again" in refused
