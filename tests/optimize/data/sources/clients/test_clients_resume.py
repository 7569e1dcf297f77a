"""A download that is cut short loses nothing, and ends as if it had not been."""

import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from optimize.data.download.run import download_bars
from optimize.errors import DownloadError
from tests.optimize.data.sources.clients.cases import (
    CASES,
    check_rows,
    double_of,
    environment_of,
    every_case,
    hurry,
    rows_of,
    served,
)
from tests.optimize.data.sources.clients.doubles import Served, serving
from tests.optimize.data.sources.clients.forks import Forks, forking

pytestmark = pytest.mark.market_data


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forking(tmp_path_factory.mktemp("forks")) as process:
        yield process


def download(name: str, folder: str, now: str) -> None:
    """Download a case in a process of its own."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("optimize.clock.now", lambda: datetime.fromisoformat(now))
    hurry(monkeypatch)
    download_bars(CASES[name].spec_in(Path(folder)), print)


@every_case
def test_a_killed_download_resumes_to_the_same_file(
    name: str, market_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    case = CASES[name]
    with serving(double_of(case, market_data), case.route) as double:
        double.hold_at = case.pages - 1
        arguments = (name, str(tmp_path / "killed"), case.at.isoformat())
        process_id = forks.start(download, *arguments, environment=environment_of(double, case))
        assert double.held.wait(300)
        os.kill(process_id, signal.SIGKILL)
        assert forks.wait() == -signal.SIGKILL
        before = double.bars_asked.copy()
    assert not list((tmp_path / "killed").rglob("*.parquet"))
    (partial,) = (tmp_path / "killed").rglob("*.partial")
    kept = partial.stat().st_size
    said: list[str] = []
    with served(case, market_data, monkeypatch) as double:
        paths = download_bars(case.spec_in(tmp_path / "killed"), said.append)
        resumed = [query for query in double.bars_asked if query not in before[:-1]]
        assert len(double.bars_asked) == len(resumed) < case.pages * len(case.files) + 1
    assert "going on after" in said[0]
    assert kept > 0
    with served(case, market_data, monkeypatch):
        straight = download_bars(case.spec_in(tmp_path / "straight"), said.append)
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
            download_bars(spec, said.append)
        double.failures.clear()
        (symbol,) = double.bars
        halved = double.bars[symbol].ohlcv * np.array([0.5, 0.5, 0.5, 0.5, 1.0])
        double.bars[symbol] = Served(double.bars[symbol].start, halved)
        (path,) = download_bars(spec, said.append)
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
        with pytest.raises(DownloadError, match=r"failed 6 times.* bars are kept; type the same") as refusal:
            download_bars(spec, print)
        assert refusal.value.exit_code == 1
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).count("again") == 1, "what to do is said once"
        double.failures.clear()
        double.bars_asked.clear()
        paths = download_bars(spec, print)
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
    monkeypatch.setattr("optimize.data.sources.clients.retry.TRIES", 2)
    with pytest.raises(DownloadError, match=r"failed 2 times.*; type the same command again") as refusal:
        download_bars(case.spec_in(tmp_path), print)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.rglob("*.parquet"))
