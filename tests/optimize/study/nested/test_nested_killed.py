"""A whole nested launch, killed with all its processes at random moments, resumes to the same returns."""

from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from optimize.database import DatabaseSpec
from optimize.study.spec import StudySpec, WorkerSpec
from tests.optimize.study.forks import run_verb, start_verb
from tests.optimize.study.processes import arguments_of, said, until
from tests.optimize.study.studies import rows, small_spec

NESTED = ("nested=true", "nested_finalists=2", "nested_seeds=2", "window.count=3", "sampler=random")
JOINED = (
    "SELECT o.window, o.trade IS NOT NULL, o.sharpe, r.session, r.return FROM outer_windows o "
    "LEFT JOIN trial_returns r ON r.study_name = o.trade WHERE o.study_name = 'small' ORDER BY r.session"
)


def in_folder(folder: Path) -> StudySpec:
    folder.mkdir()
    database = DatabaseSpec(url=f"sqlite:///{folder / 'walkforge.db'}")
    return small_spec(folder, n_trials=2, database=database, worker=WorkerSpec(count=1))


def stored_windows(spec: StudySpec) -> int:
    """Return the number of windows that are stored, 0 before there is a table."""
    if not rows(spec, "SELECT name FROM sqlite_master WHERE name = 'wf_windows'"):
        return 0
    return int(rows(spec, "SELECT COUNT(*) FROM wf_windows")[0][0])


def kill_with_children(process: ForkProcess) -> None:
    supervisor = psutil.Process(process.pid)
    for each in [*supervisor.children(recursive=True), supervisor]:
        each.kill()
    process.join()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_nested_launch_that_is_killed_resumes_to_the_same_joined_returns(tmp_path: Path) -> None:
    whole = in_folder(tmp_path / "whole")
    assert run_verb(tmp_path / "whole", "study", *arguments_of(whole, *NESTED)) == 0, said(tmp_path / "whole")
    expected: list[Any] = rows(whole, JOINED)
    windows = stored_windows(whole)
    assert len(expected) > 2

    spec, rng = in_folder(tmp_path / "killed"), np.random.default_rng()
    moments = sorted(rng.choice(np.arange(1, windows), size=3, replace=False))
    for moment in moments:
        process = start_verb(tmp_path / "killed", "study", *arguments_of(spec, *NESTED))
        try:
            until(lambda least=moment: stored_windows(spec) >= least, f"{moment} windows")  # type: ignore[misc]
        finally:
            kill_with_children(process)
        assert process.exitcode != 0, f"it ended before {moment} of {windows} windows"
    assert run_verb(tmp_path / "killed", "study", *arguments_of(spec, *NESTED)) == 0, said(
        tmp_path / "killed"
    )
    assert rows(spec, JOINED) == expected, f"killed at {moments} of {windows} windows"
    assert not rows(spec, "SELECT * FROM wf_leases")
