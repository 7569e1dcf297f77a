import gc
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.optimize.cli.conftest import Run

ENGINES = (
    "torch", "numba", "scipy", "arch", "matplotlib", "optuna", "optuna_dashboard", "stable_baselines3",
    "sqlalchemy.dialects.postgresql",
    "pandas", "gymnasium", "pyarrow", "exchange_calendars", "plotly",
)  # fmt: skip
READING = (["status"], ["leaderboard"], ["query"], ["query", "sql=best_models", "name=old"])
COMMAND = """
import sys
from optimize.cli import main
code = main(sys.argv[1:])
print("loaded:", *sorted(sys.modules))
sys.exit(code)
"""

OF_ITS_OWN = """
import gc
from optimize.cli import main
main()
print(gc.isenabled(), gc.get_freeze_count() > 50_000)
"""


def last_line(program: str, words: list[str], folder: Path) -> str:
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def loaded_by(words: list[str], folder: Path) -> set[str]:
    return set(last_line(COMMAND, words, folder).removeprefix("loaded: ").split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished study."""
    made = tmp_path_factory.mktemp("records")
    with zipfile.ZipFile(REPOSITORY / "tests" / "versions" / "v0_1.zip") as archive:
        archive.extract("databases/walkforge.db", made)
    return made


def test_explaining_a_key_loads_no_torch(tmp_path: Path) -> None:
    heavy = {"torch", "optuna", "stable_baselines3", "matplotlib", "plotly"}
    assert loaded_by(["explain", "feature.indicators"], tmp_path) & heavy == set()


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_reading_verb_loads_no_engine(words: list[str], folder: Path) -> None:
    assert loaded_by(words, folder) & set(ENGINES) == set()


@pytest.mark.parametrize("words", [["status"], ["query", "sql=best_models", "name=old"]])
def test_status_and_queries_load_no_numpy(words: list[str], folder: Path) -> None:
    assert "numpy" not in loaded_by(words, folder)


def test_a_process_of_its_own_collects_no_loaded_module(tmp_path: Path) -> None:
    assert last_line(OF_ITS_OWN, ["query"], tmp_path) == "True True"


def test_a_call_by_a_program_leaves_its_garbage_collector(run: Run) -> None:
    before = gc.get_freeze_count()
    assert run("query")[0] == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() <= before  # a frozen object may end
