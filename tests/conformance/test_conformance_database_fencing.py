"""Workers that stand still beyond their lease, on every database: another takes over, nobody writes late."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from optimize.agents.spec import AgentSpec
from optimize.errors import StaleRunError
from optimize.results import leases
from optimize.results.records import Outcome
from optimize.results.runs import adopt_windows, finish_run, save_window, start_run, windows_of
from optimize.results.states import RunState
from optimize.study.context import StudyContext, open_study
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.trials.execute import Heartbeat, _report, perform
from optimize.study.workers.process import PRELOAD, market_builder, run_claims
from tests.optimize.results.factories import make_window
from tests.optimize.study.databases import Small, record
from tests.optimize.study.processes import until
from tests.optimize.study.studies import PPO, claimed, expire, never, opened, rows, states

CONTEXT = multiprocessing.get_context("forkserver")  # as the supervisor: torch is imported once
CONTEXT.set_forkserver_preload(PRELOAD)
LEASE_S = 1.0


def stand_still(spec: StudySpec, pipe: "multiprocessing.connection.Connection") -> None:
    """Claim a trial, be stopped, and once awake try to write about it in every way there is."""
    context = open_study(spec)
    found = claimed(context)
    lease = found.lease
    writes: dict[str, Callable[[Connection], object]] = {
        "renew": lambda conn: leases.renew(conn, lease, 1e12),
        "check_token": lambda conn: leases.check_token(conn, spec.name, 0, lease.run_uuid, lease.token),
        "start_run": lambda conn: start_run(conn, lease, found.run),
        "save_window": lambda conn: save_window(conn, lease, make_window(lease)),
        "adopt_windows": lambda conn: adopt_windows(conn, lease),
        "finish_run": lambda conn: finish_run(conn, lease, Outcome(RunState.COMPLETE, 1.0, score=99.0)),
        "report": lambda conn: _report(context, found, 0, 99.0),
    }
    pipe.send(lease.run_uuid)
    os.kill(os.getpid(), signal.SIGSTOP)
    refused = []
    for name, write in writes.items():
        try:
            with context.engine.begin() as conn:
                write(conn)
        except StaleRunError:
            refused.append(name)
    with context.engine.begin() as conn:
        leases.abandon(conn, lease)
        leases.release(conn, lease)
    pipe.send((refused, list(writes)))
    context.close()


def work(spec: StudySpec, log: Path) -> None:
    with log.open("w", buffering=1) as stream:
        os.dup2(stream.fileno(), 2)
        context = open_study(spec)
        code = run_claims(context, 0, never)
        context.close()
        raise SystemExit(code)


def taken_over(context: StudyContext) -> Claim:
    """Claim the trial of a worker that does not answer, as soon as its lease has run out."""
    lay = market_builder(context)
    found: list[Claim] = []

    def try_again() -> bool:
        answer = claim(context, 1, lay)
        if isinstance(answer, Claim):
            found.append(answer)
        return bool(found)

    until(try_again, "the lease to run out")
    return found[0]


def is_stopped(process: "multiprocessing.context.ForkServerProcess") -> bool:
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def test_a_stopped_process_that_wakes_up_can_write_nothing(small: Small) -> None:
    spec = small(n_trials=1, worker=WorkerSpec(count=1, lease_s=LEASE_S))
    context = opened(spec)
    ours, theirs = CONTEXT.Pipe()
    stalled = CONTEXT.Process(target=stand_still, args=(spec, theirs))
    stalled.start()
    try:
        old = ours.recv()
        until(lambda: is_stopped(stalled), "the worker to stand still")
        successor = taken_over(context)
        assert (successor.run.trial_number, successor.run.attempt) == (0, 2)
        os.kill(stalled.pid or 0, signal.SIGCONT)
        refused, tried = ours.recv()
        stalled.join(300)
    finally:
        stalled.kill()
        stalled.join()
    assert refused == tried
    with context.engine.begin() as conn:
        leases.check_token(conn, "small", 0, successor.lease.run_uuid, successor.lease.token)
        assert windows_of(conn, old) == []
    assert rows(spec, "SELECT state, score FROM wf_runs ORDER BY attempt") == [
        ("LOST", None),
        ("RUNNING", None),
    ]
    assert context.study.trials[0].intermediate_values == {}
    record(context, successor, 1.5)
    assert context.study.best_value == 1.5


def test_a_run_that_loses_its_trial_while_it_reports_is_refused_and_its_successor_reports_anew(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(n_trials=1)
    context = opened(spec)
    first, real, successors = claimed(context), context.storage.set_trial_intermediate_value, list[Claim]()

    def take_over_and_write(trial_id: int, step: int, value: float) -> None:
        expire(spec, 0)
        successors.append(claimed(context))
        real(trial_id, step, value)

    monkeypatch.setattr(context.storage, "set_trial_intermediate_value", take_over_and_write)
    with pytest.raises(StaleRunError):
        _report(context, first, 0, 99.0)
    monkeypatch.undo()
    with pytest.raises(StaleRunError):
        _report(context, first, 1, 99.0)
    _report(context, successors[0], 0, 1.5)
    assert context.study.trials[0].intermediate_values == {0: 1.5}
    record(context, successors[0], 1.5)
    with pytest.raises(StaleRunError):
        _report(context, first, 1, 99.0)
    assert context.study.trials[0].intermediate_values == {0: 1.5}


def test_a_lease_outlives_a_database_that_is_away_for_a_moment(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    context = opened(small(n_trials=1, worker=WorkerSpec(count=1, lease_s=LEASE_S)))
    found = claimed(context)
    real, calls = leases.renew, []

    def renew(conn: Connection, lease: leases.Lease, now: float, window: int | None = None) -> leases.Lease:
        calls.append(now)
        if len(calls) <= 2:
            raise OperationalError("UPDATE", None, Exception("the server closed the connection"))
        return real(conn, lease, now, window)

    monkeypatch.setattr(leases, "renew", renew)
    with Heartbeat(context, found.lease) as heartbeat:
        until(lambda: len(calls) > 3, "the lease to be renewed again")
    assert heartbeat.stale is None
    assert "the server closed the connection" in capsys.readouterr().err
    with context.engine.connect() as conn:
        (lease,) = leases.active(conn, "small")
    assert lease.renewed_at > found.lease.renewed_at


@pytest.mark.slow
def test_a_worker_stopped_in_mid_training_gives_way_and_goes_on_with_its_life(
    small: Small, tmp_path: Path
) -> None:
    agent = AgentSpec(total_timesteps=3000, n_envs=2, net="tiny", engine="stock", hyperparameters=PPO)
    spec = small(n_trials=1, agent=agent, worker=WorkerSpec(count=1, lease_s=3 * LEASE_S))
    context = opened(spec)
    log = tmp_path / "worker.log"
    worker = CONTEXT.Process(target=work, args=(spec, log))
    worker.start()
    try:
        training = 'SELECT run_uuid FROM wf_leases WHERE "window" = 0'
        until(lambda: bool(rows(spec, training)), "the worker to train its first window")
        ((old,),) = rows(spec, training)
        os.kill(worker.pid or 0, signal.SIGSTOP)
        successor = taken_over(context)
        with Heartbeat(context, successor.lease):
            os.kill(worker.pid or 0, signal.SIGCONT)
            until(lambda: "StaleRunError" in log.read_text(), "the worker to be refused")
        run = perform(context, successor, never)
        worker.join(300)
    finally:
        worker.kill()
        worker.join()
    assert (worker.exitcode, run.state, states(context)) == (0, "COMPLETE", {"COMPLETE": 1})
    assert rows(spec, "SELECT COUNT(*) FROM wf_windows WHERE run_uuid = :old", old=old) == [(0,)]
    assert rows(spec, "SELECT run_uuid, state FROM wf_runs ORDER BY attempt") == [
        (old, "LOST"),
        (run.run_uuid, "COMPLETE"),
    ]
