"""The example of docs/extending.md: two workers with a feature of the user's own, exported and replayed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "extending.md"
NAMES = (
    "name=mine", "extensions=[my_features.py]", "feature.indicators=[returns]", "debug=tiny",
    "data=synthetic",
    "data.synthetic.bars=1500", "n_trials=4", "worker.count=2", "sampler=grid", "agent.engine=stock",
    "preflight=false", "agent.total_timesteps=128", "score.min_trades=0", "score.min_volatility=0.0",
    "~space",
    "+space.feature.indicators=[[returns],[returns,momentum_12]]", "session.calendar=24/7",
)  # fmt: skip


def walkforge(folder: Path, *arguments: str, well: bool = True) -> str:
    command = [sys.executable, "-m", "optimize", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")},  # where named code is remembered
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode == 0) == well, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_example_of_the_guide_is_searched_exported_and_replayed(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    home = tmp_path / "home"
    home.mkdir()
    example = home / "my_features.py"
    example.write_text(found[1])
    walkforge(home, "study", *NAMES)
    board = json.loads(walkforge(home, "leaderboard", "name=mine", "format=json"))
    sets = {json.dumps(row["parameters"]["feature.indicators"]) for row in board}
    assert sets == {'["returns"]', '["returns", "momentum_12"]'}
    exported = walkforge(home, "export", "name=mine", "top_n=2")
    bundles = sorted((home / "studies" / "mine" / "exports").glob("*/"))
    carrying = next(path for path in bundles if "momentum_12" in (path / "config.json").read_text())
    assert any(
        line.startswith("  walkforge replay") and line.endswith(" trust=true")
        for line in exported.splitlines()
    )
    assert "walkforge replay bundle=. trust=true" in (carrying / "CARD.md").read_text(encoding="utf-8")
    number = int(carrying.name.rpartition("_")[2])
    assert "bit for bit" in walkforge(home, "replay", "name=mine", f"trial={number}")
    away = tmp_path / "away"
    shutil.copytree(carrying, away / "bundle")
    example.rename(away / "other_place.txt")
    assert "trust=true" in walkforge(away, "replay", "bundle=bundle", well=False)
    assert "bit for bit" in walkforge(away, "replay", "bundle=bundle", "trust=true")
    assert "no file" in walkforge(home, "replay", "name=mine", f"trial={number}", well=False)
    (away / "other_place.txt").rename(example)
    example.write_text(example.read_text().replace("logs[:-12]", "logs[:-12] + 0.5"))
    refused = walkforge(
        home, "study", *(word.replace("n_trials=4", "n_trials=5") for word in NAMES), well=False
    )
    assert "the code of my_features.py changed since it was launched" in refused
    assert "differs when it is trained again" in refused
