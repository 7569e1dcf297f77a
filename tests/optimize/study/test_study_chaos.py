"""A study whose workers and supervisors are killed, and whose disk fills up, ends whole."""

from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from benchmarks.chaos import Launch, Storm, Study, check, rage
from tests.optimize.study.forks import start_verb

STORM = Storm(workers=3, cap=9, kill_every_s=0.2, disk_full_s=1.0)


@dataclass
class ForkedLaunch:
    """A launch that is a fork of this process, as the storm sees it."""

    process: ForkProcess

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode or 0

    def kill(self) -> None:
        self.process.kill()


class MostlyForked(Study):
    """A study whose first launch is a fresh process and whose later ones, which cost as much, are forks."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.launches = 0

    def launch(self, storm: Storm) -> Launch:
        self.launches += 1
        if self.launches == 1:
            return super().launch(storm)
        return ForkedLaunch(start_verb(self.folder, *self.arguments(storm)))


@pytest.mark.slow
def test_every_trial_counts_once_and_no_finished_window_is_lost(tmp_path: Path, database_url: str) -> None:
    study = MostlyForked(tmp_path, database_url)
    toll = rage(study, STORM)
    assert (toll.supervisors_killed, toll.disk_full) == (2, 1), study.said.read_text()
    assert toll.workers_killed > 0
    assert check(study, STORM)["counted"] == STORM.cap
