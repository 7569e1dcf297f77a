"""A study with real processes on every database: nothing is counted twice, nothing lost."""

import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import inspect

from optimize.evaluate.metrics import sharpe_ratio
from optimize.results.returns import load_returns
from optimize.results.runs import run_of_trial, windows_of
from optimize.results.tables import METADATA
from optimize.results.views import VIEWS
from optimize.study.context import StudyContext, open_study
from optimize.study.control import NoTrial
from optimize.study.spec import StudySpec
from optimize.study.trials.claim import Claim, claim
from optimize.study.workers.process import PRELOAD, market_builder
from optimize.walkforward.files import read_returns
from tests.optimize.study.databases import Small, record
from tests.optimize.study.forks import finish_forked, forked_study, hold_windows
from tests.optimize.study.processes import finish, kill, leased, said, until
from tests.optimize.study.studies import OPENED, opened, rows, states
from tests.postgres import PASSWORD, Server

CONTEXT = multiprocessing.get_context("forkserver")  # as the supervisor: torch is imported once
CONTEXT.set_forkserver_preload(PRELOAD)
PROCESSES, CAP = 3, 10


def create(spec: StudySpec, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait(timeout=300)
    open_study(spec).close()


def claim_without_training(spec: StudySpec, worker: int, dies: bool) -> None:
    """Claim and record trials until the cap is full; or die with the first one."""
    context = open_study(spec)
    lay = market_builder(context)
    while (found := claim(context, worker, lay)) is not NoTrial.FULL:
        if isinstance(found, Claim):
            if dies:
                kill(os.getpid())
            record(context, found, 1.0 + found.run.trial_number)
    context.close()


def run_together(processes: "list[multiprocessing.context.ForkServerProcess]") -> list[int | None]:
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        process.kill()
    return [process.exitcode for process in processes]


def test_processes_create_tables_views_and_studies_at_once(small: Small) -> None:
    specs = [small(name=f"small_{number}") for number in range(PROCESSES)]
    barrier = CONTEXT.Barrier(PROCESSES)
    creators = [CONTEXT.Process(target=create, args=(spec, barrier)) for spec in specs]
    assert run_together(creators) == [0] * PROCESSES
    context = opened(specs[0])
    assert set(inspect(context.engine).get_view_names()) == set(VIEWS)
    assert set(inspect(context.engine).get_table_names()) > set(METADATA.tables)
    names = rows(specs[0], "SELECT study_name FROM studies ORDER BY study_name")
    assert names == [(spec.name,) for spec in specs]


def test_processes_that_claim_at_once_end_at_exactly_the_cap_though_one_is_killed(small: Small) -> None:
    spec = small(n_trials=CAP)
    context = opened(spec)
    mortal = CONTEXT.Process(target=claim_without_training, args=(spec, PROCESSES, True))
    assert run_together([mortal]) == [-signal.SIGKILL]
    assert states(context) == {"RUNNING": 1}
    workers = [
        CONTEXT.Process(target=claim_without_training, args=(spec, number, False))
        for number in range(PROCESSES)
    ]
    assert run_together(workers) == [0] * PROCESSES
    assert states(context) == {"COMPLETE": CAP}
    assert [trial.number for trial in context.study.trials] == list(range(CAP))
    assert rows(spec, "SELECT * FROM wf_leases") == []
    ended = "SELECT COUNT(*), COUNT(DISTINCT trial_number) FROM wf_runs WHERE state = 'COMPLETE'"
    assert rows(spec, ended) == [(CAP, CAP)]
    attempts = "SELECT state FROM wf_runs WHERE trial_number = 0 ORDER BY attempt"
    assert rows(spec, attempts) == [("LOST",), ("COMPLETE",)]
    assert rows(spec, "SELECT COUNT(*) FROM wf_runs") == [(CAP + 1,)]
    assert rows(spec, "SELECT complete, running, remaining FROM study_health") == [(CAP, 0, 0)]
    best = rows(spec, "SELECT trial_number, score FROM best_models ORDER BY score DESC")
    assert best == [(number, 1.0 + number) for number in reversed(range(CAP))]


@pytest.mark.slow
def test_a_whole_study_survives_kill_9_resumes_and_adds_up(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    spec = small(n_trials=3)
    on_server = request.node.callspec.params["database_url"] == "postgresql"
    with monkeypatch.context() as patch:
        hold_windows(patch, tmp_path / "gate")
        with forked_study(tmp_path, spec) as supervisor:
            until(lambda: len(leased(spec)) == 2, "two trials to start")
            kill(supervisor.pid or 0)  # its workers follow
    for cap in (3, 4):
        resume = finish if on_server and cap == 4 else finish_forked  # one of them by new processes
        assert resume(tmp_path, dataclasses.replace(spec, n_trials=cap)) == 0, said(tmp_path)
        assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT number) FROM trials") == [(cap, cap)]
        assert rows(spec, "SELECT DISTINCT state FROM trials") == [("COMPLETE",)]
        assert rows(spec, "SELECT DISTINCT attempt FROM wf_runs WHERE state = 'LOST'") == [(1,)]
    assert rows(spec, "SELECT * FROM wf_leases") == []
    context = open_study(spec)
    OPENED.append(context)
    assert_best_models_add_up(context)
    if on_server:
        assert_password_is_nowhere(tmp_path, str(context.engine.url.database), request)


def assert_best_models_add_up(context: StudyContext) -> None:
    """Count the scores again from the files of returns, and the parameters from Optuna."""
    spec = context.spec
    year = market_builder(context)(spec).market.sessions_per_year
    found = rows(spec, "SELECT trial_number, score, parameters, run_uuid, windows FROM best_models")
    assert sorted(row[0] for row in found) == [trial.number for trial in context.study.trials]
    with context.engine.connect() as conn:
        matrix = load_returns(conn, spec.name)
    assert matrix is not None
    in_database = dict(zip(matrix.trial_number.tolist(), matrix.returns[:, 0], strict=True))
    for number, score, parameters, run_uuid, windows in found:
        with context.engine.connect() as conn:
            run, stored = run_of_trial(conn, spec.name, number), windows_of(conn, run_uuid)
        paths = [spec.folder / str(window.returns_path) for window in stored]
        returns = np.concatenate([read_returns(path)[1].returns for path in paths])
        np.testing.assert_array_equal(in_database[number], returns)
        assert (
            sharpe_ratio(returns, year, spec.score.risk_free) == score == context.study.trials[number].value
        )
        assert json.loads(parameters) == pytest.approx(context.study.trials[number].params, rel=1e-14)
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
