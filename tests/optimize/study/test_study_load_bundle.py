"""The public function: lazy, and documented by an example that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import optimize
from tests.conftest import REPOSITORY
from tests.optimize.study.bundles import Exports

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_example_of_the_docs_runs(
    exports: Exports,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = EXAMPLE.findall((REPOSITORY / "docs" / "bundles.md").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    pd.read_parquet(exports.prices).to_parquet("bars.parquet")
    exec(compile(example.replace("studies/mine/exports/01_trial_0007", str(bundle)), "docs", "exec"), {})
    assert -1.0 <= float(capsys.readouterr().out) <= 1.0


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import optimize, sys; print(sorted({'torch', 'numba', 'pandas', 'optuna'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_bundles'"):
        _ = optimize.load_bundles
