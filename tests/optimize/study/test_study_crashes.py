"""A crash at any point, twice, of everything: no trial fails and no finished window is lost."""

import signal
from pathlib import Path
from typing import Any

import pytest

from optimize.database import DatabaseSpec
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.supervisor import Death, Supervisor
from tests.optimize.study.crashes import kill_worker, launch_killed_at
from tests.optimize.study.forks import launch
from tests.optimize.study.studies import claimed, opened, rows, small_spec, states

KILLED = -signal.SIGKILL
WINDOWS = (
    'SELECT trial_number, w."window", repeat, w.seconds, w.sharpe '
    "FROM wf_windows w JOIN wf_runs r USING (run_uuid)"
)
STAGES = [
    ("ask", "ask", "lease", "lease", "train 0", "train 0"),
    ("tell", "tell"),
    ("window 0", "train 1", "train 1", "record", "record"),
    ("window 0", "window 1", "train 1", "reap", "reap"),
    ("record", "ask", "lease", "train 0", "tell"),
]


def one_worker(spec: StudySpec) -> StudySpec:
    return opened(spec).spec


def crash_everywhere(spec: StudySpec, stages: tuple[str, ...], folder: Path) -> None:
    finished: set[tuple[Any, ...]] = set()
    for number, stage in enumerate(stages):
        assert launch_killed_at(spec, stage, folder / f"mark_{number}") == KILLED, stage
        now = set(rows(spec, WINDOWS))
        assert finished <= now
        finished = now
    assert launch(spec) == 0
    assert rows(spec, "SELECT number, state FROM trials ORDER BY number") == [
        (0, "COMPLETE"),
        (1, "COMPLETE"),
    ]
    assert finished <= set(rows(spec, f"{WINDOWS} WHERE r.state = 'COMPLETE'"))  # none of them was run again
    assert not rows(spec, "SELECT * FROM wf_leases")
    assert rows(spec, "SELECT DISTINCT failure_kind FROM wf_runs") == [(None,)]


@pytest.mark.parametrize("stages", STAGES, ids=" then ".join)
def test_no_crash_of_everything_fails_a_trial_or_loses_a_window(
    tmp_path: Path, stages: tuple[str, ...]
) -> None:
    crash_everywhere(
        one_worker(small_spec(tmp_path, n_trials=2, worker=WorkerSpec(count=1))), stages, tmp_path
    )


@pytest.mark.postgres
def test_nor_does_one_on_a_server(tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = DatabaseSpec(url=postgres)
    spec = one_worker(small_spec(tmp_path, n_trials=2, database=database, worker=WorkerSpec(count=1)))
    crash_everywhere(spec, ("lease", "train 1", "tell"), tmp_path)


def test_a_worker_that_dies_alone_twice_in_one_window_fails_its_trial_and_not_the_study(
    tmp_path: Path,
) -> None:
    worker = WorkerSpec(count=1)
    spec = one_worker(small_spec(tmp_path, n_trials=1, max_failures=1, worker=worker))
    context = opened(spec)
    for _ in range(2):
        found = claimed(context)
        supervisor = Supervisor(context)
        supervisor.deaths = [Death(found.lease.pid, at=-10.0, blamed=True)]
        supervisor._count_losses()
    assert launch(spec) == 0
    assert rows(spec, "SELECT number, state FROM trials ORDER BY number") == [(0, "FAIL"), (1, "COMPLETE")]
    assert rows(spec, "SELECT failure_kind FROM wf_runs WHERE state = 'FAIL'") == [("stale",)]


def test_a_worker_that_dies_alone_once_in_each_window_costs_nothing(tmp_path: Path) -> None:
    spec = one_worker(small_spec(tmp_path, n_trials=1, worker=WorkerSpec(count=1)))
    assert launch_killed_at(spec, "train 0", tmp_path / "first", kill_worker) == 0
    assert rows(spec, "SELECT state FROM trials") == [("COMPLETE",)]
    assert rows(spec, "SELECT reason FROM wf_runs WHERE state = 'LOST'") == [("its worker died",)]


@pytest.mark.parametrize(
    ("deaths", "losses"),
    [
        ([Death(1, -10.0, blamed=True)], 1),
        ([Death(1, -10.0, blamed=False)], 0),  # its forkserver died, or the database was away for too long
        ([Death(1, -10.0, blamed=True), Death(2, -10.0, blamed=True)], 0),  # not alone
    ],
)
def test_only_a_worker_that_dies_alone_counts_as_a_loss(
    tmp_path: Path, deaths: list[Death], losses: int
) -> None:
    context = opened(small_spec(tmp_path))
    found = claimed(context)
    supervisor = Supervisor(context)
    supervisor.deaths = [
        Death(found.lease.pid, each.at, each.blamed) if each.pid == 1 else each for each in deaths
    ]
    supervisor._count_losses()
    assert rows(context.spec, "SELECT losses, renewed_at FROM wf_leases") == [(losses, 0.0)]
    assert not supervisor.deaths
    assert states(context) == {"RUNNING": 1}
