"""A launch: early refusals, the preflight as other processes see it, a database that comes back."""

import dataclasses
import io
import os
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sqlalchemy.exc import OperationalError

from optimize.agents.engines import local_engine
from optimize.agents.spec import AgentSpec
from optimize.agents.threads import thread_count
from optimize.cli.status import study_status
from optimize.errors import BadInputError, StudyStoppedError
from optimize.results.event_log import events, log_event
from optimize.results.events import PreflightEvent, Progress
from optimize.results.launches import preflighting
from optimize.search.spec import SamplerSpec
from optimize.study.context import cache_dir
from optimize.study.control import NoTrial
from optimize.study.failures import shortages
from optimize.study.launch.preflight import preflight_logged, preflight_on
from optimize.study.launch.run import run_study
from optimize.study.spec import WorkerSpec
from optimize.study.workers import process as workers_module
from optimize.study.workers.gpus import VISIBLE, Device
from optimize.study.workers.process import EXIT_DONE, run_claims
from optimize.walkforward.versions import comparable, conditions, source, versions
from tests.optimize.study.studies import never, opened, run_of, small_spec


def test_a_gpu_that_is_not_there_is_refused_before_anything(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, worker=WorkerSpec(devices=[7]))
    with pytest.raises(BadInputError, match=r"worker\.devices=\[7\]: there is no GPU 7"):
        run_study(spec, Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_launch_says_that_a_grid_is_tried_more_than_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.study.launch.run.supervise", lambda *_: None)
    space = {"agent": {"learning_rate": [0.0003, 0.003]}}
    said = io.StringIO()
    with pytest.raises(StudyStoppedError, match="ended with 0 of 5 trials"):
        run_study(
            small_spec(tmp_path, n_trials=5, space=space, sampler=SamplerSpec("grid")), Console(file=said)
        )
    assert (
        "small: sampler=grid: n_trials=5 tries each of the space's 2 points 2 or 3 times" in said.getvalue()
    )


def test_status_shows_the_preflight_while_it_runs_and_only_then(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    with preflight_logged(context), context.engine.connect() as conn:
        assert preflighting(conn, "small") == (os.uname().nodename, os.getpid())
        assert study_status(context.engine, "small")["preflight"]["pid"] == os.getpid()
    assert study_status(context.engine, "small")["preflight"] is None
    with pytest.raises(StudyStoppedError), preflight_logged(context):
        raise StudyStoppedError("a stage failed")
    with context.engine.begin() as conn:
        states = [logged.event.state for logged in events(conn, "small", PreflightEvent)]
        last = events(conn, "small", PreflightEvent)[-1].event
        assert states == ["runs", "passed", "runs", "failed"]
        gone = dataclasses.replace(
            last, state=Progress.RUNS, process_started=psutil.Process().create_time() - 1000
        )
        log_event(conn, "small", "killed with -9", gone)
        assert preflighting(conn, "small") is None


@pytest.mark.slow
def test_the_preflight_of_a_gpu_study_runs_where_its_gpu_is_seen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = AgentSpec(
        total_timesteps=64, n_envs=2, device="auto", hyperparameters={"n_steps": 16, "batch_size": 1}
    )
    spec, before = small_spec(tmp_path, agent=AgentSpec(device="auto")), dict(os.environ)
    with pytest.raises(StudyStoppedError, match="preflight failed in stage 'Training'"):
        preflight_on(Device(0, "0"), dataclasses.replace(spec, agent=broken), cache_dir(spec))
    assert "[STAGE ok] Data and windows" in capfd.readouterr().out
    assert dict(os.environ) == before
    assert VISIBLE not in before


def test_a_worker_waits_for_a_database_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path))
    answers: list[NoTrial | Exception] = [OperationalError("claim", {}, Exception("away"))] * 2
    answers.append(NoTrial.FULL)

    def claim(*_: object) -> NoTrial:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(workers_module, "claim", claim)
    monkeypatch.setattr(shortages, "AWAY_S", 0.01)
    assert run_claims(context, 0, never) == EXIT_DONE
    assert answers == []
    answers.append(OperationalError("claim", {}, Exception("away")))
    monkeypatch.setattr(shortages, "PATIENCE_S", -1.0)
    with pytest.raises(OperationalError):
        run_claims(context, 0, never)


def test_a_run_says_on_what_it_was_trained_and_a_replay_compares_like_with_like(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=1))
    run_claims(context, 0, never)
    stored = dict(run_of(context, 0).versions)
    assert stored.pop("engine") == "stock, for agent.engine=stock asks for it"
    assert stored.pop("evaluation") == "fused"
    known = versions() | source(["returns"])
    assert stored == known | {"threads": str(thread_count()), "device": "cpu"}
    assert comparable(stored | {"engine": "of then"}) == stored | {"engine": "of then"}
    assert comparable(stored) == stored
    assert comparable(versions()) == versions()  # of before, and of bundles
    agent = AgentSpec(device="auto")
    here = conditions(agent, local_engine(agent))
    assert here["engine"].startswith(("compiled, for", "stock, for"))
    assert here["device"] == comparable(stored | {"device": "some GPU"})["device"]
