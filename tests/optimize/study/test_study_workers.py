"""Real worker processes under their supervisor: the cap, kill -9, orphans, Ctrl-C."""

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from optimize.errors import StudyStoppedError
from optimize.search.storage import COUNTED
from optimize.study.handle import Handle
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.processes import finish, kill, leased, lives, said, study_process, until
from tests.optimize.study.studies import opened, rows, run_of, small_spec, states

pytestmark = pytest.mark.slow
STATES = "SELECT DISTINCT state FROM trials"
LONG = "agent.total_timesteps=3000"  # seconds a window
FOUR = ("window.count=4", "agent.total_timesteps=1500")


def test_four_workers_end_at_exactly_the_cap(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=8, worker=WorkerSpec(count=4))
    handle = opened(spec)
    sampled: list[int] = []

    def sample() -> None:
        trials = handle.study.get_trials(deepcopy=False)
        sampled.append(sum(trial.state in COUNTED for trial in trials))

    Supervisor(handle).run(sample)
    assert counted(handle) == 8
    assert sorted(trial.number for trial in handle.study.trials) == list(range(8))
    assert max(sampled) == 8
    assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT run_uuid) FROM wf_runs") == [(8, 8)]
    Supervisor(handle).run(sample)  # a relaunch adds nothing
    assert counted(handle) == 8
    more = opened(dataclasses.replace(spec, n_trials=10))
    Supervisor(more).run(sample)
    assert counted(more) == 10
    assert max(sampled) == 10


def test_a_study_whose_trials_fail_stops_itself_and_says_why(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=4, max_failures=2, worker=WorkerSpec(count=1))
    # Only the trainer looks at values together: a batch of one cannot be normalised.
    broken = dataclasses.replace(spec.agent, hyperparameters={"n_steps": 16, "batch_size": 1})
    handle = opened(dataclasses.replace(spec, agent=broken))
    with pytest.raises(
        StudyStoppedError, match=r"max_failures=2 trials failed.*status name=small .*failures=true"
    ):
        Supervisor(handle).run(lambda: None)
    assert states(handle) == {"FAIL": 2}
    assert run_of(handle, 0).failure_kind == "config"


def test_killed_workers_and_a_killed_supervisor_cost_nothing(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=4)
    with study_process(tmp_path, spec, *FOUR) as supervisor:
        until(
            lambda: len(leased(spec)) == 2 == halfway(spec), "two trials with windows done and windows to go"
        )
        victims = leased(spec)
        before = windows_of_trials(spec, victims)
        for pid in victims.values():
            kill(pid)
        until(lambda: taken_over(spec) == 2, "two trials to be taken over")
        until(lambda: finished(spec) >= 2 and len(leased(spec)) > 0, "two trials to finish")
        orphans = set(leased(spec).values())
        kill(supervisor.pid)
        until(lambda: not any(lives(pid) for pid in orphans), "the workers to follow their supervisor")
    assert finish(tmp_path, spec, *FOUR) == 0, said(tmp_path)
    assert set(rows(spec, STATES)) <= {("COMPLETE",), ("PRUNED",)}
    assert rows(spec, "SELECT number FROM trials ORDER BY number") == [(n,) for n in range(4)]
    assert not leased(spec)
    told = Counter(state for (state,) in rows(spec, "SELECT state FROM wf_runs"))
    assert told["COMPLETE"] + told["PRUNED"] == 4
    assert told["LOST"] >= 2
    assert "RUNNING" not in told
    for number in victims:
        same = "SELECT COUNT(DISTINCT parameters_json), COUNT(DISTINCT entropy_json) FROM wf_runs"
        assert rows(spec, f"{same} WHERE trial_number = :n", n=number) == [(1, 1)]
    assert before
    assert before <= windows_of_trials(spec, victims, "ended")  # the very same windows, not run again


def test_ctrl_c_finishes_the_running_windows_and_a_relaunch_goes_on(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=3)
    with study_process(tmp_path, spec, LONG) as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        workers = set(leased(spec).values())
        os.killpg(supervisor.pid, signal.SIGINT)
        assert supervisor.wait(60) == 1
        assert not any(lives(pid) for pid in workers)
    assert "the running windows are finished first" in said(tmp_path)
    assert "interrupted" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert stored(spec) >= 2
    leases = rows(spec, "SELECT losses, renewed_at FROM wf_leases")
    assert set(leases) == {(0, 0.0)}
    assert finish(tmp_path, spec, LONG) == 0, said(tmp_path)
    assert set(rows(spec, STATES)) <= {("COMPLETE",), ("PRUNED",)}
    assert rows(spec, "SELECT COUNT(*) FROM trials") == [(3,)]
    assert rows(spec, "SELECT DISTINCT reason FROM wf_runs WHERE state = 'LOST'") == [
        ("the worker was asked to stop",)
    ]


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=2)
    with study_process(tmp_path, spec, "agent.total_timesteps=10000000") as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        workers = set(leased(spec).values())
        os.killpg(supervisor.pid, signal.SIGINT)
        until(lambda: "Ctrl-C again" in said(tmp_path), "the answer to the first Ctrl-C")
        assert supervisor.poll() is None
        os.killpg(supervisor.pid, signal.SIGINT)
        assert supervisor.wait(30) == 1
        assert not any(lives(pid) for pid in workers)
    assert rows(spec, "SELECT losses, renewed_at FROM wf_leases") == [(0, 0.0), (0, 0.0)]
    assert stored(spec) == 0


def counted(handle: Handle) -> int:
    found = states(handle)
    assert set(found) <= {"COMPLETE", "PRUNED"}
    return found.total()


def stored(spec: StudySpec) -> int:
    return int(rows(spec, "SELECT COUNT(*) FROM wf_windows")[0][0])


def halfway(spec: StudySpec) -> int:
    """Return how many running trials have a finished window but not three of their four."""
    of_run = "SELECT COUNT(*) FROM wf_windows w WHERE w.run_uuid = l.run_uuid"
    return int(rows(spec, f"SELECT COUNT(*) FROM wf_leases l WHERE ({of_run}) IN (1, 2)")[0][0])


def finished(spec: StudySpec) -> int:
    return int(rows(spec, "SELECT COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')")[0][0])


def taken_over(spec: StudySpec) -> int:
    return int(rows(spec, "SELECT COUNT(*) FROM wf_runs WHERE attempt = 2")[0][0])


def windows_of_trials(spec: StudySpec, trials: Iterable[int], state: str = "RUNNING") -> set[tuple[Any, ...]]:
    """Return what identifies each stored window of runs that run or ended: its very duration too."""
    found = rows(
        spec,
        "SELECT trial_number, window, repeat, w.seconds, w.sharpe, w.total_return "
        "FROM wf_windows w JOIN wf_runs r USING (run_uuid) WHERE r.state IN (:one, :other)",
        one="RUNNING" if state == "RUNNING" else "COMPLETE",
        other="RUNNING" if state == "RUNNING" else "PRUNED",
    )
    return {row for row in found if row[0] in trials}
