"""A study whose workers and supervisors are killed, and whose disk fills up, ends whole."""

from pathlib import Path

import pytest

from benchmarks.chaos import Storm, Study, check, rage

STORM = Storm(workers=3, cap=12, kill_every_s=2.0, disk_full_s=2.0)


@pytest.mark.slow
def test_every_trial_counts_once_and_no_finished_window_is_lost(tmp_path: Path, database_url: str) -> None:
    study = Study(tmp_path, database_url)
    toll = rage(study, STORM)
    assert (toll.supervisors_killed, toll.disk_full) == (2, 1), study.said.read_text()
    assert check(study, STORM)["counted"] == STORM.cap
