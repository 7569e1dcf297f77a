"""Limits of a trial: what is over them, and that real workers are held to them."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from optimize.errors import StudyStoppedError
from optimize.results.progress import ended_since
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.limits import Breach, Sight, breach, is_stopped, resident_mb
from optimize.study.workers.process import Seat
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.studies import opened, rows, run_of, small_spec, states
from tests.optimize.study.trainers import ANY, misbehave

LIMITED = WorkerSpec(trial_timeout_s=10, max_memory_mb=1000, lease_s=5)
KINDS = (
    "SELECT trial_number, failure_kind, COUNT(*) FROM wf_runs WHERE failure_kind IS NOT NULL GROUP BY 1, 2"
)


@pytest.mark.parametrize(
    ("sight", "kind"),
    [
        (Sight(seconds=10.1, resident_mb=10, stopped_s=0), "timeout"),
        (Sight(seconds=1, resident_mb=1000.1, stopped_s=0), "oom"),
        (Sight(seconds=None, resident_mb=1000.1, stopped_s=0), None),
        (Sight(seconds=1, resident_mb=10, stopped_s=5.1), None),
        (Sight(seconds=11, resident_mb=1001, stopped_s=6), None),  # it cannot help it
    ],
)
def test_a_worker_over_a_limit_is_a_breach(sight: Sight, kind: str | None) -> None:
    found = breach(LIMITED, sight)
    assert found is not None
    assert found.kind == kind


def test_a_worker_within_its_limits_is_none() -> None:
    assert breach(LIMITED, Sight(seconds=10, resident_mb=1000, stopped_s=5)) is None
    assert breach(LIMITED, Sight(seconds=None, resident_mb=0, stopped_s=0)) is None
    assert breach(WorkerSpec(), Sight(seconds=1e6, resident_mb=1e6, stopped_s=0)) is None


def test_a_stopped_worker_is_ended_before_others_give_up_on_the_study_lock() -> None:
    assert breach(WorkerSpec(lease_s=3600), Sight(None, 0, stopped_s=30.1)) == Breach(
        None, "stopped by a signal for over 30 s"
    )


def test_memory_is_that_of_the_whole_process_group() -> None:
    code = "import subprocess, sys, time; held = b'x' * 2**26; "
    grandchild = (
        "subprocess.Popen([sys.executable, '-c', 'import time; held = b\"x\" * 2**27; time.sleep(60)']); "
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code + grandchild + "time.sleep(60)"], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while (used := resident_mb({parent.pid, os.getpgrp()})[parent.pid]) < 64 + 128:
            assert time.monotonic() < deadline, used
            time.sleep(0.05)
        assert used < 64 + 128 + 100
        assert not is_stopped(parent.pid)
        os.killpg(parent.pid, 19)
        time.sleep(0.1)
        assert is_stopped(parent.pid)
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
    assert not is_stopped(parent.pid)


@pytest.mark.slow
def test_a_hanging_a_greedy_a_raising_and_a_nan_trainer_are_typed_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    worker = WorkerSpec(count=2, trial_timeout_s=12, max_memory_mb=1500)
    spec = small_spec(tmp_path, n_trials=5, worker=worker)
    handle = opened(spec)
    habits = {0: "sleep", 1: "hog", 2: "fail", 3: "nan"}
    supervisor = Supervisor(handle, partial(misbehave, habits))
    supervisor.run(lambda: None)
    found = states(handle)
    assert found["FAIL"] == 4
    assert found["COMPLETE"] + found["PRUNED"] == 5
    assert found.total() == 9
    kinds = {number: run_of(handle, number).failure_kind for number in habits}
    assert kinds == {0: "timeout", 1: "oom", 2: "bug", 3: "numeric"}
    assert "worker.trial_timeout_s=12" in str(run_of(handle, 0).failure_message)
    assert "worker.max_memory_mb=1500" in str(run_of(handle, 1).failure_message)
    assert "this trainer raises" in str(run_of(handle, 2).failure_message)
    # What may pass is tried once more, from the start of its clock; what would fail again is not.
    assert sorted(rows(spec, KINDS)) == [(0, "timeout", 2), (1, "oom", 2), (2, "bug", 1), (3, "numeric", 1)]
    with handle.engine.connect() as conn:
        late = [run for run in ended_since(conn, "small", None) if run.failure_kind == "timeout"]
    assert all(run.seconds is not None and 11.0 < run.seconds < 40.0 for run in late)
    assert supervisor.restarts == 0  # a limit is no crash
    assert not rows(spec, "SELECT * FROM wf_leases")
    logs = sorted(path.relative_to(spec.folder / "logs") for path in (spec.folder / "logs").rglob("*.log"))
    assert [path.name for path in logs] == [f"worker_{n}.log" for n in range(2)]
    assert len({path.parent for path in logs}) == 1  # the folder of this launch


def tiny(folder: Path, **limits: float) -> StudySpec:
    return small_spec(folder, n_trials=4, worker=WorkerSpec(count=2, **limits))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_limit_that_hits_every_trial_stops_the_study(tmp_path: Path) -> None:
    handle = opened(tiny(tmp_path, trial_timeout_s=1.0, max_restarts=0))
    with pytest.raises(
        StudyStoppedError, match=r"stopped itself: .* trial ran over worker\.trial_timeout_s=1"
    ):
        Supervisor(handle, partial(misbehave, {ANY: "sleep"})).run(lambda: None)
    assert set(states(handle)) <= {"FAIL", "RUNNING"}
    assert states(handle)["FAIL"] >= 3


def idle(spec: StudySpec, seat: Seat) -> None:
    """Use memory and claim nothing, as a worker that has just started."""
    os.setpgrp()  # memory is counted by group
    held = b"x" * 100_000_000
    time.sleep(60)
    del held


@pytest.mark.slow
def test_a_memory_limit_below_what_a_worker_needs_is_said_at_once(tmp_path: Path) -> None:
    handle = opened(tiny(tmp_path, max_memory_mb=20))
    with pytest.raises(StudyStoppedError, match=r"before the first trial: set worker.max_memory_mb to \d+"):
        Supervisor(handle, target=idle).run(lambda: None)
    assert not states(handle)
