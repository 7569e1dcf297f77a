"""The walk-forward knows no search and no database: its modules load neither, nor Hydra."""

import subprocess
import sys
from pathlib import Path

import pytest

import optimize.walkforward
from tests.conftest import REPOSITORY

MODULES = sorted(
    f"optimize.walkforward.{path.stem}" for path in Path(optimize.walkforward.__path__[0]).glob("*.py")
)
PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
heavy = {"optuna", "sqlalchemy", "alembic", "hydra", "omegaconf", "ray", "matplotlib"}
print(*sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("names", [["optimize.walkforward"], MODULES], ids=["package", "modules"])
def test_no_search_no_database_and_no_hydra_is_loaded(names: list[str]) -> None:
    names = [name.removesuffix(".__init__") for name in names]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
