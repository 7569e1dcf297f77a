"""The supervisor and its workers: deaths that count and that do not, signals, what a worker leaves behind."""

import os
import signal
import subprocess
import sys
from ctypes import c_double, c_ulong
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import StudyStoppedError
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers import supervisor as supervisor_module
from optimize.study.workers.limits import Breach
from optimize.study.workers.process import Seat
from optimize.study.workers.supervisor import Member, Supervisor
from tests.conftest import REPOSITORY
from tests.optimize.study.processes import kill, leased, lives, said, study_process, until
from tests.optimize.study.studies import claimed, opened, rows, small_spec, states
from tests.optimize.study.trainers import ANY, misbehave

pytestmark = pytest.mark.slow
GIVEN_BACK = "SELECT losses, renewed_at FROM wf_leases"
REASONS = "SELECT DISTINCT reason FROM wf_runs WHERE state = 'LOST'"
ENDLESS = "agent.total_timesteps=10000000"


@dataclass
class Process:
    """Stands for a worker whose trial this very process claimed."""

    pid: int = os.getpid()


@pytest.mark.parametrize("same_trial", [True, False])
def test_a_limit_fails_the_trial_that_broke_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_trial: bool
) -> None:
    handle = opened(small_spec(tmp_path))
    claimed(handle)
    supervisor = Supervisor(handle)
    since, begun = c_double(100.0), c_ulong(1)
    seat = Seat(0, tmp_path / "log", supervisor.stop, since, begun)
    member = Member(Process(), seat)  # type: ignore[arg-type]
    supervisor.crew[0] = member

    def end(_: Member) -> None:
        if not same_trial:  # it went on between the look and the kill
            since.value = 200.0

    monkeypatch.setattr(supervisor_module, "_end_group", end)
    supervisor._punish(0, member, 100.0, Breach("timeout", "too long"))
    assert list(supervisor.due) == [0]
    found = rows(handle.spec, "SELECT state, failure_kind FROM wf_runs")
    assert found == ([("RETRIED", "timeout")] if same_trial else [("LOST", None)])
    assert rows(handle.spec, GIVEN_BACK) == [(0, 0.0)]


def study(folder: Path, **worker: Any) -> StudySpec:
    return small_spec(folder, n_trials=4, worker=WorkerSpec(**worker))


def test_a_worker_that_dies_each_time_ends_the_study_after_max_restarts(tmp_path: Path) -> None:
    supervisor = Supervisor(opened(study(tmp_path, max_restarts=2)), partial(misbehave, {ANY: "die"}))
    with pytest.raises(StudyStoppedError, match=r"worker\.max_restarts=2 dead .*exit code -9\): see .*/logs"):
        supervisor.run(lambda: None)
    assert supervisor.restarts == 3


def test_deaths_are_forgiven_while_trials_finish(tmp_path: Path) -> None:
    handle = opened(study(tmp_path, max_restarts=1))
    supervisor = Supervisor(handle, partial(misbehave, {0: "die_once", 1: "die_once", 3: "die_once"}))
    supervisor.run(lambda: None)
    assert states(handle) == {"COMPLETE": 4}
    assert rows(handle.spec, "SELECT COUNT(*) FROM wf_runs WHERE state = 'LOST'") == [(3,)]
    assert supervisor.restarts == 1


def test_a_worker_that_is_told_to_leave_gives_its_trial_back_and_is_replaced(tmp_path: Path) -> None:
    handle = opened(study(tmp_path, max_restarts=0))
    Supervisor(handle, partial(misbehave, {1: "leave_once"})).run(lambda: None)
    assert states(handle) == {"COMPLETE": 4}
    assert rows(handle.spec, REASONS) == [("the worker was asked to stop",)]
    assert rows(handle.spec, "SELECT COUNT(*) FROM wf_windows") == [(9,)]  # one copied, none run again


def test_a_worker_that_is_stopped_in_the_study_lock_is_ended_and_costs_nothing(tmp_path: Path) -> None:
    handle = opened(study(tmp_path, count=2, lease_s=2, max_restarts=0))
    Supervisor(handle, partial(misbehave, {ANY: "stop_in_lock"})).run(lambda: None)
    assert (tmp_path / "studies" / "stopped").exists()
    assert states(handle) == {"COMPLETE": 4}


def test_what_a_worker_started_ends_with_it_also_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.optimize.study.trainers", str(tmp_path), "start_a_child"]
    spec = study(tmp_path, count=2)
    with (tmp_path / "said.txt").open("w") as log:
        supervisor = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        until(lambda: len(written(spec)) == 2, "two trainers to start a child each")
        children, workers = written(spec), set(leased(spec).values())
        assert len(workers) == 2
        assert all(map(lives, children | workers))
        victim = min(workers)
        kill(victim)  # its child ends with it, and it is replaced
        until(lambda: sum(map(lives, children)) == 1, "the child of a killed worker to end")
        kill(supervisor.pid)
        until(lambda: not any(map(lives, written(spec) | workers)), "all to end with the supervisor")
    finally:
        supervisor.kill()
        supervisor.wait()


def written(spec: StudySpec) -> set[int]:
    """Return the pids that trainers wrote down."""
    found = Path(spec.output_dir).glob("start_a_child_*")
    return {int(text) for path in found if (text := path.read_text())}


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, False)],
)
def test_a_first_signal_finishes_the_running_windows(
    tmp_path: Path, number: signal.Signals, to_group: bool
) -> None:
    spec = study(tmp_path, count=2)
    with study_process(tmp_path, spec, "agent.total_timesteps=3000") as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        workers = set(leased(spec).values())
        (os.killpg if to_group else os.kill)(supervisor.pid, number)
        assert supervisor.wait(100) == 1
        assert not any(map(lives, workers))
    assert "the running windows are finished first" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert rows(spec, "SELECT COUNT(*) FROM wf_windows")[0][0] >= 2
    assert set(rows(spec, GIVEN_BACK)) == {(0, 0.0)}
    assert rows(spec, REASONS) == [("the worker was asked to stop",)]


@pytest.mark.parametrize("to_group", [True, False])
def test_a_second_sigterm_stops_at_once(tmp_path: Path, to_group: bool) -> None:
    spec = study(tmp_path, count=2)
    send = os.killpg if to_group else os.kill
    with study_process(tmp_path, spec, ENDLESS) as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        workers = set(leased(spec).values())
        send(supervisor.pid, signal.SIGTERM)
        until(lambda: "Ctrl-C again" in said(tmp_path), "the answer to the first signal")
        assert supervisor.poll() is None
        assert all(map(lives, workers))
        send(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait(30) == 1
        assert not any(map(lives, workers))
    assert rows(spec, GIVEN_BACK) == [(0, 0.0), (0, 0.0)]
