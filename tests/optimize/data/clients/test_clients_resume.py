"""A download that is cut short loses nothing, and ends as if it had not been."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optimize.data.download import fetch
from optimize.errors import DownloadError
from tests.conftest import REPOSITORY
from tests.optimize.data.clients.cases import (
    CASES,
    check_rows,
    double_of,
    environment_of,
    every_case,
    rows_of,
    served,
)
from tests.optimize.data.clients.doubles import Served, serving

pytestmark = pytest.mark.market_data

KILLED_RUN = """
import sys
from datetime import datetime
from pathlib import Path
import optimize.clock
optimize.clock.now = lambda: datetime.fromisoformat(sys.argv[3])
from optimize.data.download import fetch
from tests.optimize.data.clients.cases import CASES
fetch(CASES[sys.argv[1]].spec_in(Path(sys.argv[2])), print)
"""


@every_case
def test_a_killed_download_resumes_to_the_same_file(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    with serving(double_of(case, market_data), case.route) as double:
        double.hold_at = case.pages - 1
        environment = {
            **os.environ,
            **environment_of(double, case),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        environment["PYTHONPATH"] = str(REPOSITORY)
        arguments = [sys.executable, "-c", KILLED_RUN, name, str(tmp_path / "killed"), case.at.isoformat()]
        with subprocess.Popen(arguments, env=environment, cwd=tmp_path) as process:
            assert double.held.wait(60)
            process.kill()
            process.wait()
        before = double.bars_asked.copy()
    assert not list((tmp_path / "killed").rglob("*.parquet"))
    (partial,) = (tmp_path / "killed").rglob("*.partial")
    kept = partial.stat().st_size
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        paths = fetch(case.spec_in(tmp_path / "killed"), said.append)
        resumed = [query for query in double.bars_asked if query not in before[:-1]]
        assert len(double.bars_asked) == len(resumed) < case.pages * len(case.files) + 1
    assert "going on after" in said[0]
    assert kept > 0
    with served(case, market_data, monkeypatch):
        straight = fetch(case.spec_in(tmp_path / "straight"), said.append)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in straight]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", ["yfinance", "alpaca_stock"])
def test_prices_restated_while_a_download_lay_still_begin_it_anew(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    spec = case.spec_in(tmp_path)
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        double.failures = dict.fromkeys(range(1, 50), (502, {}))
        with pytest.raises(DownloadError):
            fetch(spec, said.append)
        double.failures.clear()
        (symbol,) = double.bars
        halved = double.bars[symbol].ohlcv * np.array([0.5, 0.5, 0.5, 0.5, 1.0])
        double.bars[symbol] = Served(double.bars[symbol].start, halved)
        (path,) = fetch(spec, said.append)
    assert any("downloading all of it again" in line for line in said)
    (name_here,) = case.files
    stamps, expected = case.expected(market_data, name_here, case.start(case.at), case.at)
    stored_stamps, stored = rows_of(path)
    np.testing.assert_array_equal(stored_stamps, stamps)
    np.testing.assert_allclose(stored[:, :4], 0.5 * expected[:, :4], rtol=1e-12)


@every_case
def test_what_came_before_a_failure_is_kept(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    spec = case.spec_in(tmp_path)
    with served(case, market_data, monkeypatch) as double:
        double.failures = dict.fromkeys(range(1, 50), (502, {}))
        with pytest.raises(DownloadError, match=r"failed 6 times.* bars are kept, type the same") as refusal:
            fetch(spec, print)
        assert refusal.value.exit_code == 1
        assert "\n" not in str(refusal.value)
        double.failures.clear()
        double.bars_asked.clear()
        paths = fetch(spec, print)
        assert len(double.bars_asked) == case.pages * len(case.files) - 1
    for symbol, path in zip(case.files, paths, strict=True):
        check_rows(path, case, market_data, symbol, case.start(case.at), case.at)


@every_case
def test_a_source_out_of_reach_is_one_line_and_exit_code_1(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    with served(case, market_data, monkeypatch):
        pass
    monkeypatch.setattr("optimize.data.clients.retry.TRIES", 2)
    with pytest.raises(DownloadError, match="failed 2 times") as refusal:
        fetch(case.spec_in(tmp_path), print)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("*.parquet"))
