"""The Python interface: light to import, typed, and its examples in docs/library.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import optimize
from optimize import compose
from optimize.data.market import load_bars
from optimize.errors import BadInputError
from tests.conftest import REPOSITORY
from tests.optimize.bundles.in_process import replays_in_this_process
from tests.optimize.study.forks import run_verb

GUIDE = REPOSITORY / "docs" / "library.md"
EXAMPLE = re.compile(r"```python\n(# (\w+\.py)\n.*?)```", re.DOTALL)
EXAMPLES = {name: text for text, name in EXAMPLE.findall(GUIDE.read_text(encoding="utf-8"))}
HEAVY = ("torch", "numpy", "hydra", "optuna", "sqlalchemy", "pandas")
NUMBER = r"-?\d+\.\d+"


def python(folder: Path, *arguments: str, source: str | None = None) -> str:
    """Run Python in a folder, on a script or on standard input as a notebook would, and return its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=source,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_here(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run an example in this process and return its output."""
    monkeypatch.chdir(folder)
    exec(compile(EXAMPLES[name], name, "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


def test_the_package_loads_nothing_before_a_function_is_used() -> None:
    code = f"import sys, optimize; print([name for name in {HEAVY} if name in sys.modules], dir(optimize))"
    printed = python(REPOSITORY, "-c", code)
    assert printed.startswith("[] ")
    assert all(name in printed for name in optimize.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trade'"):
        optimize.trade  # noqa: B018


def test_compose_refuses_what_the_command_line_refuses() -> None:
    assert compose("study", ["name=x", "agent.gamma=0.5"]).agent.hyperparameters["gamma"] == 0.5
    with pytest.raises(BadInputError, match="n_trails"):
        compose("study", ["name=x", "n_trails=5"])
    with pytest.raises(BadInputError, match="name is missing"):
        compose("study")
    with pytest.raises(BadInputError, match="compose study or walk-forward"):
        compose("status")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_walk_forward_gives_one_score_here_and_in_a_spawned_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run_here("library_walk_forward.py", tmp_path, monkeypatch, capsys)
    (score,) = re.findall(rf"score ({NUMBER})", printed)
    assert len(re.findall(rf"Sharpe [+]?{NUMBER}", printed)) == 2
    assert "buy_and_hold" in printed
    (tmp_path / "library_spawn.py").write_text(EXAMPLES["library_spawn.py"])
    spawned = python(tmp_path, "library_spawn.py").split()
    assert spawned[0] == score
    assert spawned[1] != score  # of another seed
    assert not list(tmp_path.glob("studies*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_from_standard_input_is_exported_and_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = python(tmp_path, "-", source=EXAMPLES["library_study.py"])
    assert "trial_number" in printed
    with replays_in_this_process():
        assert run_verb(tmp_path, "export", "name=notebook", "top_n=1", "gate=none") == 0
    bars = load_bars(compose("study", ["name=x", "data=synthetic", "data.synthetic.bars=1600"]).data)
    columns = {name: getattr(bars, name)[:, 0] for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame({"timestamp": pd.to_datetime(bars.timestamp, utc=True), **columns})
    frame.to_parquet(tmp_path / "bars.parquet")
    acted = run_here("library_act.py", tmp_path, monkeypatch, capsys).split()
    assert len(acted) == 3
    assert -1.0 <= float(acted[2]) <= 1.0
