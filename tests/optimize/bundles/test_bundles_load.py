"""A policy loads without this package, as documented by an example that runs; the package itself is lazy."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

import optimize
from tests.conftest import REPOSITORY

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_example_of_the_docs_runs(bundle: Path) -> None:
    (example,) = EXAMPLE.findall((REPOSITORY / "docs" / "bundles.md").read_text(encoding="utf-8"))
    here = example.replace("studies/quickstart.model/exports/01_trial_0002", str(bundle))
    assert here != example
    space = PPO.load(bundle / "model.zip").observation_space
    names: dict[str, Any] = {"observation": np.zeros(space.shape, np.float32)}
    exec(compile(here, "docs", "exec"), names)
    assert names["model"].action_space.contains(names["action"])


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import optimize, sys; print(sorted({'torch', 'numba', 'pandas', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_bundles'"):
        _ = optimize.load_bundles
