"""Limits of a trial: usage that exceeds them, and real workers that are killed for it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from optimize.errors import StudyStoppedError
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.limits import LimitExceeded, Usage, exceeded_limit, is_stopped, resident_mb
from optimize.study.workers.process import WorkerSlot
from tests.optimize.study.forks import forking
from tests.optimize.study.processes import until
from tests.optimize.study.studies import opened, rows, run_of, small_spec, states
from tests.optimize.study.trainers import ANY, FOREVER_S, asleep, misbehave

LIMITED = WorkerSpec(trial_timeout_s=10, max_memory_mb=1000, lease_s=5)
LIMIT_S = 300.0  # of a trial, which no machine is too slow for
KINDS = (
    "SELECT trial_number, failure_kind, COUNT(*) FROM wf_runs WHERE failure_kind IS NOT NULL GROUP BY 1, 2"
)


@pytest.mark.parametrize(
    ("usage", "kind"),
    [
        (Usage(seconds=10.1, resident_mb=10, stopped_s=0), "timeout"),
        (Usage(seconds=1, resident_mb=1000.1, stopped_s=0), "oom"),
        (Usage(seconds=None, resident_mb=1000.1, stopped_s=0), None),
        (Usage(seconds=1, resident_mb=10, stopped_s=5.1), None),
        (Usage(seconds=11, resident_mb=1001, stopped_s=6), None),  # it cannot help it
    ],
)
def test_a_worker_over_a_limit_is_a_breach(usage: Usage, kind: str | None) -> None:
    found = exceeded_limit(LIMITED, usage)
    assert found is not None
    assert found.kind == kind


def test_a_worker_within_its_limits_is_none() -> None:
    assert exceeded_limit(LIMITED, Usage(seconds=10, resident_mb=1000, stopped_s=5)) is None
    assert exceeded_limit(LIMITED, Usage(seconds=None, resident_mb=0, stopped_s=0)) is None
    assert exceeded_limit(WorkerSpec(), Usage(seconds=1e6, resident_mb=1e6, stopped_s=0)) is None


def test_a_stopped_worker_is_ended_before_others_give_up_on_the_study_lock() -> None:
    assert exceeded_limit(WorkerSpec(lease_s=3600), Usage(None, 0, stopped_s=30.1)) == LimitExceeded(
        None, "stopped by a signal for over 30 s"
    )


def test_memory_is_that_of_the_whole_process_group() -> None:
    code = "import subprocess, sys, time; held = b'x' * 2**26; "
    grandchild = (
        "subprocess.Popen([sys.executable, '-c', 'import time; held = b\"x\" * 2**27; time.sleep(600)']); "
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code + grandchild + "time.sleep(600)"], start_new_session=True
    )

    def used() -> float:
        return resident_mb({parent.pid, os.getpgrp()})[parent.pid]

    try:
        until(lambda: used() >= 64 + 128, "both processes to hold their memory")
        assert used() < 64 + 128 + 100
        assert not is_stopped(parent.pid)
        os.killpg(parent.pid, signal.SIGSTOP)
        until(lambda: is_stopped(parent.pid), "the process to stand still")
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    assert not is_stopped(parent.pid)


@pytest.mark.slow
def test_a_hanging_a_greedy_a_raising_and_a_nan_trainer_are_typed_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    room = psutil.Process().memory_info().rss // 2**20 + 1000  # a fork begins with the pages of this process
    worker = WorkerSpec(count=2, trial_timeout_s=LIMIT_S, max_memory_mb=room)
    spec = small_spec(tmp_path, n_trials=5, worker=worker)
    context = opened(spec)
    habits = {0: "sleep", 1: "hog", 2: "fail", 3: "nan"}
    supervisor = forking(context, partial(misbehave, habits))
    woken: set[int] = set()

    def let_it_be_late() -> None:
        for process in supervisor.running_processes():
            if process.pid not in woken and asleep(Path(spec.output_dir), process.pid).exists():
                woken.add(process.pid)
                process.slot.since.value -= LIMIT_S

    supervisor.run(let_it_be_late)
    assert len(woken) == 2  # each try has a clock of its own
    found = states(context)
    assert found["FAIL"] == 4
    assert found["COMPLETE"] + found["PRUNED"] == 5
    assert found.total() == 9
    kinds = {number: run_of(context, number).failure_kind for number in habits}
    assert kinds == {0: "timeout", 1: "oom", 2: "bug", 3: "numeric"}
    assert f"worker.trial_timeout_s={LIMIT_S:g}" in str(run_of(context, 0).failure_message)
    assert f"worker.max_memory_mb={room}" in str(run_of(context, 1).failure_message)
    assert "this trainer raises" in str(run_of(context, 2).failure_message)
    # A transient failure is tried once more with a full time limit; one that would repeat is not.
    assert sorted(rows(spec, KINDS)) == [(0, "timeout", 2), (1, "oom", 2), (2, "bug", 1), (3, "numeric", 1)]
    assert supervisor.restarts == 0  # a limit is no crash
    assert not rows(spec, "SELECT * FROM wf_leases")
    logs = sorted(path.relative_to(spec.folder / "logs") for path in (spec.folder / "logs").rglob("*.log"))
    assert [path.name for path in logs] == [f"worker_{n}.log" for n in range(2)]
    assert len({path.parent for path in logs}) == 1  # the folder of this launch


def tiny(folder: Path, **limits: float) -> StudySpec:
    return small_spec(folder, n_trials=4, worker=WorkerSpec(count=2, **limits))  # type: ignore[arg-type]


def test_a_limit_that_hits_every_trial_stops_the_study(tmp_path: Path) -> None:
    context = opened(tiny(tmp_path, trial_timeout_s=0.2, max_restarts=0))
    with pytest.raises(
        StudyStoppedError, match=r"stopped itself: .* trial ran over worker\.trial_timeout_s=0.2"
    ):
        forking(context, partial(misbehave, {ANY: "sleep"})).run(lambda: None)
    assert set(states(context)) <= {"FAIL", "RUNNING"}
    assert states(context)["FAIL"] >= 3


def idle(spec: StudySpec, slot: WorkerSlot) -> None:
    """Use memory and claim nothing, as a worker that has just started."""
    os.setpgrp()  # memory is counted by group
    held = b"x" * 100_000_000
    time.sleep(FOREVER_S)
    del held


def test_a_memory_limit_below_what_a_worker_needs_is_said_at_once(tmp_path: Path) -> None:
    context = opened(tiny(tmp_path, max_memory_mb=20))
    with pytest.raises(StudyStoppedError, match=r"before the first trial: set worker.max_memory_mb to \d+"):
        forking(context, target=idle).run(lambda: None)
    assert not states(context)
