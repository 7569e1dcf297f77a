"""A study with real processes on every database: nothing counted twice, nothing lost, nobody writes late."""

import dataclasses
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import OperationalError

from optimize.agents.spec import AgentSpec
from optimize.database import DatabaseSpec, study_lock
from optimize.errors import StaleRunError
from optimize.evaluate.metrics import sharpe_ratio
from optimize.results import leases
from optimize.results.records import Outcome
from optimize.results.runs import adopt_windows, finish_run, run_of_trial, save_window, start_run, windows_of
from optimize.results.tables import METADATA
from optimize.results.views import VIEWS
from optimize.study.caps import Claim, Verdict, claim, tell
from optimize.study.files import read_returns
from optimize.study.handle import Handle, open_study
from optimize.study.perform import Heartbeat, perform
from optimize.study.spec import StudySpec, WorkerSpec
from optimize.study.workers import PRELOAD, ground_source, run_claims
from tests.optimize.results.factories import make_window
from tests.optimize.study.processes import finish, kill, leased, said, study_process, until
from tests.optimize.study.studies import OPENED, PPO, claimed, never, opened, rows, small_spec, states
from tests.postgres import PASSWORD, Server

CONTEXT = multiprocessing.get_context("forkserver")  # as the supervisor: torch is imported once
CONTEXT.set_forkserver_preload(PRELOAD)
PROCESSES, CAP = 4, 14
LEASE_S = 1.0
Small = Callable[..., StudySpec]


@pytest.fixture
def small(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    """Return a function that makes the spec of a small study, on each database in turn."""
    monkeypatch.chdir(tmp_path)  # markets of a server's studies are kept in its databases/market
    yield partial(small_spec, tmp_path, database=DatabaseSpec(url=database_url))
    while OPENED:
        OPENED.pop().close()


def create(spec: StudySpec, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(timeout=60)
    open_study(spec).close()


def claim_without_training(spec: StudySpec, worker: int, dies: bool) -> None:
    """Claim and record trials until the cap is full; or die with the first one."""
    handle = open_study(spec)
    lay = ground_source(handle)
    while (found := claim(handle, worker, lay)) is not Verdict.FULL:
        if isinstance(found, Claim):
            if dies:
                kill(os.getpid())
            record(handle, found, 1.0 + found.run.trial_number)
    handle.close()


def record(handle: Handle, found: Claim, score: float) -> None:
    """Do what a worker does with a trial once it is trained."""
    with handle.engine.begin() as conn:
        run = finish_run(conn, found.lease, Outcome("COMPLETE", 1.0, score=score))
    with study_lock(handle.spec.database.url, handle.spec.name):
        tell(handle, run)
        with handle.engine.begin() as conn:
            leases.release(conn, found.lease)


def stand_still(spec: StudySpec, pipe: "multiprocessing.connection.Connection") -> None:
    """Claim a trial, be stopped, and once awake try to write about it in every way there is."""
    handle = open_study(spec)
    found = claimed(handle)
    lease = found.lease
    writes: dict[str, Callable[[Connection], object]] = {
        "renew": lambda conn: leases.renew(conn, lease, 1e12),
        "check_token": lambda conn: leases.check_token(conn, spec.name, 0, lease.run_uuid, lease.token),
        "start_run": lambda conn: start_run(conn, lease, found.run),
        "save_window": lambda conn: save_window(conn, lease, make_window(lease)),
        "adopt_windows": lambda conn: adopt_windows(conn, lease),
        "finish_run": lambda conn: finish_run(conn, lease, Outcome("COMPLETE", 1.0, score=99.0)),
    }
    pipe.send(lease.run_uuid)
    os.kill(os.getpid(), signal.SIGSTOP)
    refused = []
    for name, write in writes.items():
        try:
            with handle.engine.begin() as conn:
                write(conn)
        except StaleRunError:
            refused.append(name)
    with handle.engine.begin() as conn:
        leases.abandon(conn, lease)
        leases.release(conn, lease)
    pipe.send((refused, list(writes)))
    handle.close()


def work(spec: StudySpec, log: Path) -> None:
    with log.open("w", buffering=1) as stream:
        os.dup2(stream.fileno(), 2)
        handle = open_study(spec)
        code = run_claims(handle, 0, never)
        handle.close()
        raise SystemExit(code)


def run_together(processes: "list[multiprocessing.context.ForkServerProcess]") -> list[int | None]:
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]


def taken_over(handle: Handle) -> Claim:
    """Claim the trial of a worker that does not answer, as soon as its lease has run out."""
    lay = ground_source(handle)
    found: list[Claim] = []

    def try_again() -> bool:
        answer = claim(handle, 1, lay)
        if isinstance(answer, Claim):
            found.append(answer)
        return bool(found)

    until(try_again, "the lease to run out")
    return found[0]


def is_stopped(process: "multiprocessing.context.ForkServerProcess") -> bool:
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def test_processes_create_tables_views_and_study_at_once(small: Small) -> None:
    spec = small()
    barrier = CONTEXT.Barrier(PROCESSES)
    creators = [CONTEXT.Process(target=create, args=(spec, barrier)) for _ in range(PROCESSES)]
    assert run_together(creators) == [0] * PROCESSES
    handle = opened(spec)
    assert set(inspect(handle.engine).get_view_names()) == set(VIEWS)
    assert set(inspect(handle.engine).get_table_names()) > set(METADATA.tables)
    assert rows(spec, "SELECT study_name FROM studies") == [("small",)]


def test_processes_that_claim_at_once_end_at_exactly_the_cap_though_one_is_killed(small: Small) -> None:
    spec = small(n_trials=CAP)
    handle = opened(spec)
    mortal = CONTEXT.Process(target=claim_without_training, args=(spec, PROCESSES, True))
    assert run_together([mortal]) == [-signal.SIGKILL]
    assert states(handle) == {"RUNNING": 1}
    workers = [
        CONTEXT.Process(target=claim_without_training, args=(spec, number, False))
        for number in range(PROCESSES)
    ]
    assert run_together(workers) == [0] * PROCESSES
    assert states(handle) == {"COMPLETE": CAP}
    assert [trial.number for trial in handle.study.trials] == list(range(CAP))
    assert rows(spec, "SELECT * FROM wf_leases") == []
    ended = "SELECT COUNT(*), COUNT(DISTINCT trial_number) FROM wf_runs WHERE state = 'COMPLETE'"
    assert rows(spec, ended) == [(CAP, CAP)]
    attempts = "SELECT state FROM wf_runs WHERE trial_number = 0 ORDER BY attempt"
    assert rows(spec, attempts) == [("LOST",), ("COMPLETE",)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_runs") == [(CAP + 1,)]
    assert rows(spec, "SELECT complete, running, remaining FROM study_health") == [(CAP, 0, 0)]
    best = rows(spec, "SELECT trial_number, score FROM best_models ORDER BY score DESC")
    assert best == [(number, 1.0 + number) for number in reversed(range(CAP))]


def test_a_stopped_process_that_wakes_up_can_write_nothing(small: Small) -> None:
    spec = small(n_trials=1, worker=WorkerSpec(count=1, lease_s=LEASE_S))
    handle = opened(spec)
    ours, theirs = CONTEXT.Pipe()
    stalled = CONTEXT.Process(target=stand_still, args=(spec, theirs))
    stalled.start()
    try:
        old = ours.recv()
        until(lambda: is_stopped(stalled), "the worker to stand still")
        successor = taken_over(handle)
        assert (successor.run.trial_number, successor.run.attempt) == (0, 2)
        os.kill(stalled.pid or 0, signal.SIGCONT)
        refused, tried = ours.recv()
        stalled.join(60)
    finally:
        stalled.kill()
        stalled.join()
    assert refused == tried
    with handle.engine.begin() as conn:
        leases.check_token(conn, "small", 0, successor.lease.run_uuid, successor.lease.token)
        assert windows_of(conn, old) == []
    assert rows(spec, "SELECT state, score FROM wf_runs ORDER BY attempt") == [
        ("LOST", None),
        ("RUNNING", None),
    ]
    record(handle, successor, 1.5)
    assert handle.study.best_value == 1.5


def test_a_lease_outlives_a_database_that_is_away_for_a_moment(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = opened(small(n_trials=1, worker=WorkerSpec(count=1, lease_s=LEASE_S)))
    found = claimed(handle)
    real, calls = leases.renew, []

    def renew(conn: Connection, lease: leases.Lease, now: float, window: int | None = None) -> leases.Lease:
        calls.append(now)
        if len(calls) <= 2:
            raise OperationalError("UPDATE", None, Exception("the server closed the connection"))
        return real(conn, lease, now, window)

    monkeypatch.setattr(leases, "renew", renew)
    with Heartbeat(handle, found.lease) as heartbeat:
        until(lambda: len(calls) > 3, "the lease to be renewed again")
    assert heartbeat.stale is None
    assert "the server closed the connection" in capsys.readouterr().err
    with handle.engine.connect() as conn:
        (lease,) = leases.active(conn, "small")
    assert lease.renewed_at > found.lease.renewed_at


@pytest.mark.slow
def test_a_worker_stopped_in_mid_training_gives_way_and_goes_on_with_its_life(
    small: Small, tmp_path: Path
) -> None:
    agent = AgentSpec(total_timesteps=3000, n_envs=2, net="tiny", hyperparameters=PPO)
    spec = small(n_trials=1, agent=agent, worker=WorkerSpec(count=1, lease_s=3 * LEASE_S))
    handle = opened(spec)
    log = tmp_path / "worker.log"
    worker = CONTEXT.Process(target=work, args=(spec, log))
    worker.start()
    try:
        training = 'SELECT run_uuid FROM wf_leases WHERE "window" = 0'
        until(lambda: bool(rows(spec, training)), "the worker to train its first window")
        ((old,),) = rows(spec, training)
        os.kill(worker.pid or 0, signal.SIGSTOP)
        successor = taken_over(handle)
        with Heartbeat(handle, successor.lease):
            os.kill(worker.pid or 0, signal.SIGCONT)
            until(lambda: "StaleRunError" in log.read_text(), "the worker to be refused")
        run = perform(handle, successor, never)
        worker.join(60)
    finally:
        worker.kill()
        worker.join()
    assert (worker.exitcode, run.state, states(handle)) == (0, "COMPLETE", {"COMPLETE": 1})
    assert rows(spec, "SELECT COUNT(*) FROM wf_windows WHERE run_uuid = :old", old=old) == [(0,)]
    assert rows(spec, "SELECT run_uuid, state FROM wf_runs ORDER BY attempt") == [
        (old, "LOST"),
        (run.run_uuid, "COMPLETE"),
    ]


@pytest.mark.slow
def test_a_whole_study_survives_kill_9_resumes_and_adds_up(
    small: Small, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    spec = small(n_trials=3)
    with study_process(tmp_path, spec, "agent.total_timesteps=1500") as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        kill(supervisor.pid)  # its workers follow
    for cap in (3, 4):
        relaunched = dataclasses.replace(spec, n_trials=cap)
        assert finish(tmp_path, relaunched, "agent.total_timesteps=1500") == 0, said(tmp_path)
        assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT number) FROM trials") == [(cap, cap)]
        assert rows(spec, "SELECT DISTINCT state FROM trials") == [("COMPLETE",)]
        assert rows(spec, "SELECT DISTINCT attempt FROM wf_runs WHERE state = 'LOST'") == [(1,)]
    assert rows(spec, "SELECT * FROM wf_leases") == []
    handle = open_study(spec)
    OPENED.append(handle)
    assert_best_models_add_up(handle)
    if request.node.callspec.params["database_url"] == "postgresql":
        assert_password_is_nowhere(tmp_path, str(handle.engine.url.database), request)


def assert_best_models_add_up(handle: Handle) -> None:
    """Count the scores again from the files of returns, and the parameters from Optuna."""
    spec = handle.spec
    year = ground_source(handle)(spec).market.sessions_per_year
    found = rows(spec, "SELECT trial_number, score, parameters, run_uuid, windows FROM best_models")
    assert sorted(row[0] for row in found) == [trial.number for trial in handle.study.trials]
    for number, score, parameters, run_uuid, windows in found:
        with handle.engine.connect() as conn:
            run, stored = run_of_trial(conn, spec.name, number), windows_of(conn, run_uuid)
        paths = [spec.folder / str(window.returns_path) for window in stored]
        returns = np.concatenate([read_returns(path)[1].returns for path in paths])
        assert sharpe_ratio(returns, year, spec.score.risk_free) == score == handle.study.trials[number].value
        assert json.loads(parameters) == pytest.approx(handle.study.trials[number].params, rel=1e-14)
        assert run is not None
        assert (run.run_uuid, windows) == (run_uuid, 2)


def assert_password_is_nowhere(folder: Path, database: str, request: pytest.FixtureRequest) -> None:
    """Look for the password in every file of the study and in every row of the database."""
    secret = PASSWORD.encode()
    assert [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert (folder / "studies" / "small" / "config.json").read_text().count(
        '"url": "postgresql://walker@'
    ) == 1
    server: Server = request.getfixturevalue("postgres_server")
    dump = server.dump(database)
    assert dump.count('"url": "postgresql://walker@') >= 4  # the study and its runs
    assert PASSWORD not in dump
