"""The verbs that run a study, once each on a PostgreSQL server; the conformance suites go further there."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.console import Console

from optimize.database import DatabaseSpec
from optimize.errors import StudyStoppedError
from optimize.study.launch.run import run_study
from optimize.study.spec import WorkerSpec
from tests.optimize.study.forks import run_verb
from tests.optimize.study.processes import arguments_of, said
from tests.optimize.study.studies import rows, small_spec

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_a_study_is_launched_paused_resumed_stopped_launched_again_and_joined(
    tmp_path: Path, postgres: str
) -> None:
    spec = small_spec(tmp_path, n_trials=1, database=DatabaseSpec(url=postgres), worker=WorkerSpec(count=1))

    def run(*command: str) -> str:
        """Run a verb that succeeds and return all that was printed until now."""
        assert run_verb(tmp_path, *command, f"database.url={postgres}") == 0, said(tmp_path)
        return said(tmp_path)

    def raise_cap(cap: int) -> None:
        """Launch the study as a machine that is lost before its workers start."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("optimize.study.launch.run.supervise", lambda *_: None)
            assert run_verb(tmp_path, "study", *arguments_of(spec, f"n_trials={cap}")) == 1, said(tmp_path)

    run("study", *arguments_of(spec))
    assert rows(spec, "SELECT state FROM wf_runs") == [("COMPLETE",)]
    raise_cap(2)
    assert "small is paused now, 1 of 2 trials done" in run("study", "name=small", "action=pause")
    assert "small is released" in run("study", "name=small", "action=resume")
    assert "small is stopped now" in run("study", "name=small", "action=stop")
    assert "small was stopped; this launch resumes it" in run("study", *arguments_of(spec, "n_trials=2"))
    raise_cap(3)
    assert "study small is at its cap" in run("worker", "name=small", "worker.count=1")
    assert rows(spec, "SELECT state, COUNT(*) FROM trials GROUP BY 1") == [("COMPLETE", 3)]
    assert not rows(spec, "SELECT * FROM wf_leases")


@pytest.mark.parametrize("ends_early", [False, True])
def test_a_launch_leaves_no_connection_open(
    tmp_path: Path, postgres: str, monkeypatch: pytest.MonkeyPatch, ends_early: bool
) -> None:
    connections: list[psycopg.Connection[Any]] = []
    connect = psycopg.connect

    def kept(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
        connections.append(connect(*arguments, **options))
        return connections[-1]

    monkeypatch.setattr(psycopg, "connect", kept)
    spec = small_spec(tmp_path, n_trials=1, database=DatabaseSpec(url=postgres), worker=WorkerSpec(count=1))
    if ends_early:
        monkeypatch.setattr("optimize.study.launch.run.supervise", lambda *_: None)
        with pytest.raises(StudyStoppedError):
            run_study(spec, Console(quiet=True))
    else:
        run_study(spec, Console(quiet=True))
    assert connections
    assert all(connection.closed for connection in connections)
