"""The kernel cache follows every source file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import config, njit
from numba.core.caching import NullCache

import envs
from envs.compiled import bind_kernels, compiled, digest_sources
from envs.types import FloatArray

PROBE = """
import numpy as np
from envs.accounts import open_accounts
from envs.costs import CostSpec
from envs.ledger import pay_financing
account = open_accounts(1, 1)
account.cash[0] = -1.0
rates = CostSpec(borrow_rate=0.5).rates()
print(pay_financing(0, np.ones(1), 31557600 * 10**9, rates, account))
"""


def add(left: float, right: float) -> float:
    return left + right


def test_a_compiled_function_computes_and_leaves_the_settings_alone() -> None:
    before = vars(config)["CACHE_DIR"]
    assert compiled(add)(1.0, 2.0) == 3.0
    assert vars(config)["CACHE_DIR"] == before


def ratio(values: FloatArray) -> float:
    return float(values[0] * values[1] / values[2] ** 1.5 - values[0] * 0.5)


def test_a_caller_with_fast_math_does_not_pass_it_to_called_kernels() -> None:
    exact: Any = compiled(ratio)
    exact._cache = NullCache()  # one that comes from the cache cannot be inspected

    def call(given: FloatArray) -> float:
        return float(exact(given))

    values = np.array([0.1, 0.7, 0.3])
    assert njit(fastmath=True)(call)(values) == exact(values)  # the caller compiles it, for the first time
    assert " fast " not in exact.inspect_llvm(exact.signatures[0])


def test_digest_follows_names_and_bytes(tmp_path: Path) -> None:
    digests = [digest_sources(tmp_path)]
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2"), ("c.txt", "")):
        (tmp_path / name).write_text(text)
        digests.append(digest_sources(tmp_path))
    assert len(set(digests)) == 4
    assert digests[-1] == digests[-2]


def test_an_edited_cost_reaches_the_cached_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "envs"
    shutil.copytree(Path(envs.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def paid() -> float:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, "-c", PROBE]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return float(result.stdout)

    assert paid() == 0.5
    source = folder / "cost_kernels.py"
    before = source.read_text()
    after = before.replace("rates.borrow * max", "2.0 * rates.borrow * max")
    assert after != before
    source.write_text(after)
    assert paid() == 1.0


def twice(value: float) -> float:
    return 2.0 * value


def thrice(value: float) -> float:
    return 3.0 * value


def call_twice(value: float) -> float:
    return twice(value)


def test_a_bound_function_calls_the_given_kernel_under_a_name_of_its_own() -> None:
    bound: Any = bind_kernels(call_twice, "call_thrice", twice=thrice)
    assert (bound.__name__, bound(2.0), call_twice(2.0)) == ("call_thrice", 6.0, 4.0)


def test_a_kernel_that_the_function_does_not_call_is_refused() -> None:
    with pytest.raises(TypeError, match="call_twice does not call twise"):
        bind_kernels(call_twice, "call_thrice", twise=thrice)
