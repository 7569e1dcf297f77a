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
from optimize.search.storage import CAP_STATES
from optimize.study.context import StudyContext
from optimize.study.spec import StudySpec, WorkerSpec
from tests.optimize.study.forks import finish_forked, forked_study, forking, hold_windows
from tests.optimize.study.processes import PATIENCE_S, kill, leased, lives, said, study_process, until
from tests.optimize.study.studies import opened, rows, run_of, small_spec, states

STATES = "SELECT DISTINCT state FROM trials"
LONG = "agent.total_timesteps=1500"  # a second a window
FOUR = "window.count=4"


def test_four_workers_end_at_exactly_the_cap(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=6, worker=WorkerSpec(count=4))
    context = opened(spec)
    sampled: list[int] = []

    def sample() -> None:
        trials = context.study.get_trials(deepcopy=False)
        sampled.append(sum(trial.state in CAP_STATES for trial in trials))

    forking(context).run(sample)
    assert counted(context) == 6
    assert sorted(trial.number for trial in context.study.trials) == list(range(6))
    assert max(sampled) == 6
    assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT run_uuid) FROM wf_runs") == [(6, 6)]
    forking(context).run(sample)  # a relaunch adds nothing
    assert counted(context) == 6
    more = opened(dataclasses.replace(spec, n_trials=8))
    forking(more).run(sample)
    assert counted(more) == 8
    assert max(sampled) == 8


def test_a_study_whose_trials_fail_stops_itself_and_says_why(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=4, max_failures=2, worker=WorkerSpec(count=1))
    # Only the trainer looks at values together: a batch of one cannot be normalised.
    broken = dataclasses.replace(spec.agent, hyperparameters={"n_steps": 16, "batch_size": 1})
    context = opened(dataclasses.replace(spec, agent=broken))
    with pytest.raises(
        StudyStoppedError, match=r"max_failures=2 trials failed.*status name=small .*failures=true"
    ):
        forking(context).run(lambda: None)
    assert states(context) == {"FAIL": 2}
    assert run_of(context, 0).failure_kind == "config"


def test_killed_workers_and_a_killed_supervisor_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, gate = small_spec(tmp_path, n_trials=4), tmp_path / "gate"
    hold_windows(monkeypatch, gate, first=2)
    with forked_study(tmp_path, spec, FOUR) as supervisor:
        until(lambda: len(leased(spec)) == 2 == halfway(spec), "two trials with two of four windows done")
        victims = leased(spec)
        before = windows_of_trials(spec, victims)
        for pid in victims.values():
            kill(pid)
        until(lambda: taken_over(spec) == 2 == len(leased(spec)), "two trials to be taken over")
        orphans = set(leased(spec).values())
        assert not orphans & set(victims.values())
        supervisor.kill()
        until(lambda: not any(lives(pid) for pid in orphans), "the workers to follow their supervisor")
    gate.touch()
    assert finish_forked(tmp_path, spec, FOUR) == 0, said(tmp_path)
    assert set(rows(spec, STATES)) <= {("COMPLETE",), ("PRUNED",)}
    assert rows(spec, "SELECT number FROM trials ORDER BY number") == [(n,) for n in range(4)]
    assert not leased(spec)
    told = Counter(state for (state,) in rows(spec, "SELECT state FROM wf_runs"))
    assert told["COMPLETE"] + told["PRUNED"] == 4
    assert told["LOST"] == 4
    assert "RUNNING" not in told
    for number in victims:
        same = "SELECT COUNT(DISTINCT parameters_json), COUNT(DISTINCT entropy_json) FROM wf_runs"
        assert rows(spec, f"{same} WHERE trial_number = :n", n=number) == [(1, 1)]
    assert before
    assert before <= windows_of_trials(spec, victims, "ended")  # the very same windows, not run again


@pytest.mark.slow  # the command as a shell starts it
def test_ctrl_c_finishes_the_running_windows_and_a_relaunch_goes_on(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=2)
    with study_process(tmp_path, spec, LONG) as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        workers = set(leased(spec).values())
        os.killpg(supervisor.pid, signal.SIGINT)
        assert supervisor.wait(PATIENCE_S) == 1
        assert not any(lives(pid) for pid in workers)
    assert "the running windows are finished first" in said(tmp_path)
    assert "interrupted" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert stored(spec) >= 2
    leases = rows(spec, "SELECT losses, renewed_at FROM wf_leases")
    assert set(leases) == {(0, 0.0)}
    assert finish_forked(tmp_path, spec, LONG) == 0, said(tmp_path)
    assert set(rows(spec, STATES)) <= {("COMPLETE",), ("PRUNED",)}
    assert rows(spec, "SELECT COUNT(*) FROM trials") == [(2,)]
    assert rows(spec, "SELECT DISTINCT reason FROM wf_runs WHERE state = 'LOST'") == [
        ("the worker was asked to stop",)
    ]


def counted(context: StudyContext) -> int:
    found = states(context)
    assert set(found) <= {"COMPLETE", "PRUNED"}
    return found.total()


def stored(spec: StudySpec) -> int:
    return int(rows(spec, "SELECT COUNT(*) FROM wf_windows")[0][0])


def halfway(spec: StudySpec) -> int:
    """Return how many running trials have finished two windows."""
    of_run = "SELECT COUNT(*) FROM wf_windows w WHERE w.run_uuid = l.run_uuid"
    return int(rows(spec, f"SELECT COUNT(*) FROM wf_leases l WHERE ({of_run}) = 2")[0][0])


def taken_over(spec: StudySpec) -> int:
    return int(rows(spec, "SELECT COUNT(*) FROM wf_runs WHERE attempt = 2")[0][0])


def windows_of_trials(spec: StudySpec, trials: Iterable[int], state: str = "RUNNING") -> set[tuple[Any, ...]]:
    """Return the identity of each stored window of running or ended runs, its duration included."""
    found = rows(
        spec,
        "SELECT trial_number, window, repeat, w.seconds, w.sharpe, w.total_return "
        "FROM wf_windows w JOIN wf_runs r USING (run_uuid) WHERE r.state IN (:one, :other)",
        one="RUNNING" if state == "RUNNING" else "COMPLETE",
        other="RUNNING" if state == "RUNNING" else "PRUNED",
    )
    return {row for row in found if row[0] in trials}
