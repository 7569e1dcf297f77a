"""Whenever a download is killed, the next command finds the old bars or the new ones, whole, and goes on."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optimize.data.download.plan import SymbolDownload, fetch_span
from optimize.data.download.progress import Meter
from optimize.data.sources.clients.protocol import HistoryLimit, Page, make_page
from optimize.data.sources.downloaded import is_stored, stored_path, stored_rows
from optimize.data.sources.providers import PROVIDERS
from optimize.data.spec import DataSpec
from optimize.data.timeframes import HOUR_NS
from tests.optimize.data.samples import stamp
from tests.optimize.data.sources.clients.forks import Forks, forking

SYMBOL = "BTC/USDT"
FIRST_NS = stamp("2024-01-01")
ROWS = (40, 50, 60)  # stored; with the first refresh; with the second
KILLED = 9
WRITES = 60


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test catches it."""


class Source:
    """A client of twenty bars a page."""

    name = "source"
    timeframes = ("1h",)

    def restates(self, symbol: str) -> bool:
        return False

    def history_limit(self, timeframe: str) -> HistoryLimit | None:
        return None

    def check(self, symbols: object) -> None:
        """Know every symbol."""

    def pages(self, symbol: str, timeframe: str, start_ns: int, end_ns: int) -> Iterator[Page]:
        for first_ns in range(-(-start_ns // HOUR_NS) * HOUR_NS, end_ns, 20 * HOUR_NS):
            stamps = np.arange(first_ns, min(first_ns + 20 * HOUR_NS, end_ns), HOUR_NS)
            yield make_page(stamps, bars_of(stamps), int(stamps[-1]) + HOUR_NS)


def bars_of(stamps: Any) -> Any:
    price = 100.0 + (stamps - FIRST_NS) / HOUR_NS
    return np.stack([price, price + 1, price - 1, price, price], axis=1)


def job_in(folder: Path, rows: int) -> SymbolDownload:
    """Return the job of bringing a file to so many rows."""
    download = PROVIDERS["ccxt"].download
    assert download is not None
    spec = DataSpec(provider="ccxt", symbols=[SYMBOL], months=1, refresh=True, folder=str(folder))
    path = stored_path(spec, download, SYMBOL)
    path.parent.mkdir(parents=True, exist_ok=True)
    return SymbolDownload(spec, download, SYMBOL, path, HOUR_NS, FIRST_NS, FIRST_NS + rows * HOUR_NS)


def bring_up_to_date(job: SymbolDownload) -> None:
    for piece in job.missing_spans():
        fetch_span(job, Source(), piece, Meter("", lambda line: None, None))


@dataclass
class Steps:
    """Counts the moments before each change on disk and after the last, and ends the run at one of them."""

    end: Callable[[], None]
    kill_at: int
    passed: int = 0

    def moment(self) -> None:
        if self.passed == self.kill_at:
            self.end()
        self.passed += 1

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Let every change on disk pass a moment first, those of a file's content one in mid-write, too."""
        for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
            patch.setattr(owner, name, self._after_moment(getattr(owner, name)))
        patch.setattr(pd.DataFrame, "to_parquet", self._torn(pd.DataFrame.to_parquet))

    def _after_moment(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **settings: Any) -> Any:
            self.moment()
            return change(*arguments, **settings)

        return changed

    def _torn(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def torn(frame: pd.DataFrame, path: Path, **settings: Any) -> None:
            self.moment()
            path.write_bytes(b"PAR1")
            self.moment()
            write(frame, path, **settings)

        return torn


def kill(job: SymbolDownload, kill_at: int) -> int | None:
    """Bring a file up to date until killed at a moment; return how many there were if it was not."""

    def end() -> None:
        raise Killed

    steps = Steps(end, kill_at)
    with pytest.MonkeyPatch.context() as patch:
        steps.watch(patch)
        try:
            bring_up_to_date(job)
        except Killed:
            return None
    return steps.passed + 1


def check_pair(job: SymbolDownload, allowed: Sequence[int]) -> int:
    """Check that a reader finds bars whose manifest fits, of one of the allowed numbers; return it."""
    stored = stored_rows(job.path, SYMBOL, "1h")
    rows = len(stored.timestamp)
    assert rows in allowed
    np.testing.assert_array_equal(stored.timestamp, FIRST_NS + np.arange(rows) * HOUR_NS)
    np.testing.assert_array_equal(stored.ohlcv, bars_of(stored.timestamp))
    return rows


def moments(folder: Path, *before: int, rows: int) -> int:
    """Return at how many moments a download can be killed."""
    for earlier in before:
        bring_up_to_date(job_in(folder, earlier))
    count = kill(job_in(folder, rows), -1)
    assert count is not None
    return count


def test_two_kills_at_any_moment_of_two_refreshes_leave_a_whole_pair(tmp_path: Path) -> None:
    count = moments(tmp_path / "count", ROWS[0], rows=ROWS[1])
    assert count >= 10
    bring_up_to_date(job_in(tmp_path / "stored", ROWS[0]))
    for number, (first, second) in enumerate(product(range(count), repeat=2)):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "stored", folder)
        kill(job_in(folder, ROWS[1]), first)
        check_pair(job_in(folder, ROWS[1]), ROWS[:2])
        kill(job_in(folder, ROWS[2]), second)
        check_pair(job_in(folder, ROWS[2]), ROWS)
        bring_up_to_date(job_in(folder, ROWS[2]))
        check_pair(job_in(folder, ROWS[2]), ROWS[2:])


def test_two_kills_at_any_moment_of_a_first_download_lose_nothing(tmp_path: Path) -> None:
    count = moments(tmp_path / "count", rows=ROWS[0])
    for first in range(count):
        folder = tmp_path / str(first)
        for kill_at, rows in ((first, ROWS[0]), (count - 1 - first, ROWS[1])):
            job = job_in(folder, rows)
            kill(job, kill_at)
            if is_stored(job.path):
                check_pair(job, ROWS[:2])
        bring_up_to_date(job_in(folder, ROWS[2]))
        check_pair(job_in(folder, ROWS[2]), ROWS[2:])
        names = {path.name for path in job_in(folder, ROWS[2]).path.parent.iterdir()}
        assert names == {"BTC-USDT_1h.parquet", "BTC-USDT_1h.json"}, "nothing of the killed runs is left"


def killed_run(folder: str, rows: str, kill_at: str) -> None:
    """Bring a file up to date in this process, which ends at a moment as if it was killed."""
    Steps(lambda: os._exit(KILLED), int(kill_at)).watch(pytest.MonkeyPatch())
    bring_up_to_date(job_in(Path(folder), int(rows)))


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forking(tmp_path_factory.mktemp("forks")) as process:
        yield process


@pytest.mark.slow
def test_processes_that_end_at_any_moment_leave_a_whole_pair(tmp_path: Path, forks: Forks) -> None:
    count = moments(tmp_path / "count", ROWS[0], rows=ROWS[1])
    for number in range(count):
        folder = tmp_path / str(number)
        bring_up_to_date(job_in(folder, ROWS[0]))
        for kill_at, rows in ((number, ROWS[1]), (count - 1 - number, ROWS[2])):
            forks.start(killed_run, str(folder), str(rows), str(kill_at), environment={})
            assert forks.wait() in (0, KILLED)
            check_pair(job_in(folder, rows), ROWS)
        bring_up_to_date(job_in(folder, ROWS[2]))
        check_pair(job_in(folder, ROWS[2]), ROWS[2:])


def test_a_reader_sees_a_pair_that_fits_while_another_process_writes(tmp_path: Path, forks: Forks) -> None:
    job = job_in(tmp_path, ROWS[0])
    bring_up_to_date(job)
    forks.start(write_for_a_while, str(tmp_path), environment={})
    seen = [ROWS[0]]
    while seen[-1] < ROWS[0] + WRITES:
        seen.append(check_pair(job, range(seen[-1], ROWS[0] + WRITES + 1)))
    assert forks.wait() == 0
    assert len(set(seen)) > 5


def write_for_a_while(folder: str) -> None:
    """Refresh a file again and again, a bar at a time."""
    for rows in range(ROWS[0], ROWS[0] + WRITES + 1):
        bring_up_to_date(job_in(Path(folder), rows))
        time.sleep(0.01)
