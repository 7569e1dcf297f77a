"""The supervisor and its workers: deaths that count or do not, signals, processes left by a worker."""

import os
import signal
from ctypes import c_double, c_ulong
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import StudyStoppedError
from optimize.results.states import FailureKind
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers import supervisor as supervisor_module
from optimize.study.workers.limits import LimitExceeded
from optimize.study.workers.process import WorkerSlot
from optimize.study.workers.supervisor import Supervisor, WorkerProcess
from tests.optimize.study.crashes import training
from tests.optimize.study.forks import forking, start
from tests.optimize.study.processes import kill, leased, lives, until
from tests.optimize.study.studies import claimed, opened, rows, small_spec, states
from tests.optimize.study.trainers import ANY, misbehave

GIVEN_BACK = "SELECT losses, renewed_at FROM wf_leases"
REASONS = "SELECT DISTINCT reason FROM wf_runs WHERE state = 'LOST'"
ANSWER = "the running windows are finished first; Ctrl-C again stops at once"


@dataclass
class Process:
    """Stands for a worker whose trial this very process claimed."""

    pid: int = os.getpid()


@pytest.mark.parametrize("same_trial", [True, False])
def test_a_limit_fails_the_trial_that_broke_it_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_trial: bool
) -> None:
    context = opened(small_spec(tmp_path))
    claimed(context)
    supervisor = Supervisor(context)
    since, begun = c_double(100.0), c_ulong(1)
    slot = WorkerSlot(0, tmp_path / "log", supervisor.stop, since, begun)
    process = WorkerProcess(Process(), slot)  # type: ignore[arg-type]
    supervisor.processes[0] = process

    def end(_: WorkerProcess) -> None:
        if not same_trial:  # it went on between the look and the kill
            since.value = 200.0

    monkeypatch.setattr(supervisor_module, "_end_group", end)
    supervisor._kill_over_limit(0, process, 100.0, LimitExceeded(FailureKind.TIMEOUT, "too long"))
    assert list(supervisor.due) == [0]
    found = rows(context.spec, "SELECT state, failure_kind FROM wf_runs")
    assert found == ([("RETRIED", "timeout")] if same_trial else [("LOST", None)])
    assert rows(context.spec, GIVEN_BACK) == [(0, 0.0)]


def study(folder: Path, **worker: Any) -> StudySpec:
    return small_spec(folder, n_trials=4, worker=WorkerSpec(**worker))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace a dead worker at once: a death waits for no others, and a restart for no back-off."""
    monkeypatch.setattr(supervisor_module, "ALONE_S", 0.0)
    monkeypatch.setattr(supervisor_module, "delay_s", lambda _: 0.0)


@pytest.mark.usefixtures("at_once")
def test_a_worker_that_dies_each_time_ends_the_study_after_max_restarts(tmp_path: Path) -> None:
    supervisor = forking(opened(study(tmp_path, max_restarts=2)), partial(misbehave, {ANY: "die"}))
    with pytest.raises(StudyStoppedError, match=r"worker\.max_restarts=2 dead .*exit code -9\): see .*/logs"):
        supervisor.run(lambda: None)
    assert supervisor.restarts == 3


@pytest.mark.usefixtures("at_once")
def test_deaths_are_forgiven_while_trials_finish(tmp_path: Path) -> None:
    context = opened(study(tmp_path, max_restarts=1))
    supervisor = forking(context, partial(misbehave, {0: "die_once", 1: "die_once", 3: "die_once"}))
    supervisor.run(lambda: None)
    assert states(context) == {"COMPLETE": 4}
    assert rows(context.spec, "SELECT COUNT(*) FROM wf_runs WHERE state = 'LOST'") == [(3,)]
    assert supervisor.restarts == 1


def test_a_worker_that_is_told_to_leave_gives_its_trial_back_and_is_replaced(tmp_path: Path) -> None:
    context = opened(study(tmp_path, max_restarts=0))
    forking(context, partial(misbehave, {1: "leave_once"})).run(lambda: None)
    assert states(context) == {"COMPLETE": 4}
    assert rows(context.spec, REASONS) == [("the worker was asked to stop",)]
    assert rows(context.spec, "SELECT COUNT(*) FROM wf_windows") == [(9,)]  # one copied, none run again


def test_a_worker_that_is_stopped_in_the_study_lock_is_ended_and_costs_nothing(tmp_path: Path) -> None:
    context = opened(study(tmp_path, count=2, lease_s=1, max_restarts=0))
    forking(context, partial(misbehave, {ANY: "stop_in_lock"})).run(lambda: None)
    assert (tmp_path / "studies" / "stopped").exists()
    assert states(context) == {"COMPLETE": 4}


def test_what_a_worker_started_ends_with_it_also_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    spec = opened(study(tmp_path, count=2)).spec
    supervisor = start(spec, partial(misbehave, {ANY: "start_a_child"}))
    try:
        until(lambda: len(written(spec)) == 2, "two trainers to start a child each")
        children, workers = written(spec), set(leased(spec).values())
        assert len(workers) == 2
        assert all(map(lives, children | workers))
        victim = min(workers)
        kill(victim)  # its child ends with it, and it is replaced
        until(lambda: sum(map(lives, children)) == 1, "the child of a killed worker to end")
        supervisor.kill()
        until(lambda: not any(map(lives, written(spec) | workers)), "all to end with the supervisor")
    finally:
        supervisor.kill()
        supervisor.join()
        for pid in filter(lives, written(spec) | set(leased(spec).values())):  # after a failure
            kill(pid)


def written(spec: StudySpec) -> set[int]:
    """Return the pids that trainers wrote down."""
    found = Path(spec.output_dir).glob("start_a_child_*")
    return {int(text) for path in found if (text := path.read_text())}


@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_first_signal_finishes_the_running_window(
    tmp_path: Path, number: signal.Signals, to_group: bool
) -> None:
    with training(tmp_path) as study:
        (worker,) = leased(study.spec).values()
        study.signal(number, to_group=to_group)
        until(lambda: ANSWER in study.log.read_text(), "the answer to the signal")
        study.go_on()
        study.supervisor.join()
        assert study.supervisor.exitcode == 1
        assert not lives(worker)
    assert rows(study.spec, "SELECT COUNT(*) FROM wf_windows") == [(1,)]
    assert rows(study.spec, GIVEN_BACK) == [(0, 0.0)]
    assert rows(study.spec, REASONS) == [("the worker was asked to stop",)]


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals, to_group: bool) -> None:
    with training(tmp_path) as study:
        (worker,) = leased(study.spec).values()
        study.signal(number, to_group=to_group)
        until(lambda: ANSWER in study.log.read_text(), "the answer to the first signal")
        assert study.supervisor.is_alive()
        assert lives(worker)
        study.signal(number, to_group=to_group)
        study.supervisor.join()  # though the gate of its worker stays shut
        assert study.supervisor.exitcode == 1
        assert not lives(worker)
    assert rows(study.spec, GIVEN_BACK) == [(0, 0.0)]
    assert rows(study.spec, "SELECT COUNT(*) FROM wf_windows") == [(0,)]
