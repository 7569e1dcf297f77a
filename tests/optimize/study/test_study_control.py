"""Pause, resume and stop, from another terminal."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Connection

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.event_log import log_event
from optimize.results.events import NoteFailed, Paused, Stopped
from optimize.results.returns import save_returns
from optimize.study import control
from optimize.study.context import StudyContext
from optimize.study.control import (
    NoTrial,
    StateReader,
    StoppedByActionError,
    refuse_stopped,
    request_action,
    resume_stopped,
    state_of,
)
from optimize.study.launch.run import run_study
from optimize.study.trials.claim import claim
from optimize.study.workers.process import EXIT_DONE, market_builder, run_claims
from tests.optimize.study.databases import Small
from tests.optimize.study.forks import finish_forked, forked_study, hold_windows
from tests.optimize.study.processes import leased, said, until
from tests.optimize.study.studies import (
    change_windows,
    claimed,
    never,
    opened,
    play,
    rows,
    small_spec,
    states,
    unchanged,
)


def state(context: StudyContext) -> str:
    with context.engine.connect() as conn:
        return state_of(conn, context.spec.name)


def next_claim(context: StudyContext) -> object:
    return claim(context, 0, market_builder(context))


def test_a_paused_study_hands_out_nothing_until_it_is_resumed(small: Small) -> None:
    context = opened(small(n_trials=2))
    assert state(context) == "running"
    play(context, 1)
    (line,) = request_action(context.engine, "small", "pause")
    assert "small is paused now, 1 of 2 trials done; no trial runs" in line
    assert "action=resume" in line
    assert next_claim(context) is NoTrial.PAUSED
    assert "small is paused already" in request_action(context.engine, "small", "pause")[0]
    assert "small is paused:" in str(resume_stopped(context))  # a launch waits too
    assert next_claim(context) is NoTrial.PAUSED
    assert "small is released" in request_action(context.engine, "small", "resume")[0]
    assert play(context) is NoTrial.FULL


def test_a_stopped_study_lets_its_workers_go_until_it_is_launched_again(small: Small) -> None:
    context = opened(small(n_trials=2))
    claimed(context)
    (line,) = request_action(context.engine, "small", "stop")
    assert "1 trial runs: the running windows are finished first" in line
    assert run_claims(context, 0, never) == EXIT_DONE
    assert next_claim(context) is NoTrial.STOPPED
    with pytest.raises(
        StoppedByActionError, match=r"stopped by action=stop.*the same command resumes it"
    ) as left:
        refuse_stopped(context)
    assert left.value.exit_code == 0
    assert "this launch resumes it" in str(resume_stopped(context))
    assert resume_stopped(context) is None
    refuse_stopped(context)


def test_a_running_trial_ends_its_window_and_is_given_back(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STATE_POLL_S", 0.0)
    context = opened(small(n_trials=1))
    ran = change_windows(monkeypatch, unchanged)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert rows(context.spec, "SELECT losses, renewed_at FROM wf_leases") == [(0, 0.0)]
        request_action(context.engine, "small", "resume")

    monkeypatch.setattr("optimize.study.workers.process.time.sleep", sleep)
    after_first_window(monkeypatch, lambda: request_action(context.engine, "small", "pause"))
    assert run_claims(context, 0, never) == EXIT_DONE
    assert ran == [0, 1]
    assert len(waits) == 1
    assert states(context) == {"COMPLETE": 1}
    assert rows(context.spec, "SELECT state FROM wf_runs ORDER BY attempt") == [("LOST",), ("COMPLETE",)]


def after_first_window(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act once, when a window is stored."""
    acted: list[bool] = []

    def save(conn: Connection, *arguments: Any) -> None:
        save_returns(conn, *arguments)
        if not acted:
            acted.append(True)
            conn.commit()  # later events come from another terminal
            act()

    monkeypatch.setattr("optimize.study.trials.execute.save_returns", save)


def test_the_state_is_looked_up_seldom(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small())
    now = [100.0]
    monkeypatch.setattr("optimize.study.control.time.monotonic", lambda: now[0])
    reader = StateReader(context, looked_at=now[0])
    request_action(context.engine, "small", "stop")
    now[0] += 1.9
    assert not reader()
    now[0] += 0.2
    assert reader()


def test_phases_share_one_state(small: Small) -> None:
    first = opened(small(name="small.timeframe", n_trials=1))
    play(first)
    (line,) = request_action(first.engine, "small", "pause")  # between the phases
    assert "small.timeframe is paused now" in line
    second = opened(small(name="small.model", n_trials=1))
    assert next_claim(second) is NoTrial.PAUSED
    assert len(request_action(first.engine, "small", "resume")) == 2
    assert play(second) is NoTrial.FULL


def test_there_is_nothing_to_do_with_a_study_at_its_cap_or_one_that_is_not_there(small: Small) -> None:
    context = opened(small(n_trials=1))
    play(context)
    assert request_action(context.engine, "small", "pause") == [
        "small is at its cap (1 of 1): there is nothing to pause"
    ]
    assert state(context) == "running"
    with pytest.raises(BadInputError, match=r"no such study.*did you mean small"):
        request_action(context.engine, "smal", "pause")
    with pytest.raises(BadInputError, match=r"action='halt' is not allowed"):
        request_action(context.engine, "small", "halt")


def test_another_word_of_the_same_kind_later_wins(small: Small) -> None:
    context = opened(small())
    with context.engine.begin() as conn:
        log_event(conn, "small", "x", Stopped())
        log_event(conn, "other", "x", Paused())
        log_event(conn, "small", "x", NoteFailed())
    assert state(context) == "stopped"


def test_a_lower_cap_takes_nothing_back(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=3)
    assert play(opened(spec)) is NoTrial.FULL
    heard = io.StringIO()
    run_study(dataclasses.replace(spec, n_trials=2), Console(file=heard, width=200))
    assert "small: 3 trials done and kept, the cap is now 2, nothing to run" in heard.getvalue()


def test_pause_resume_and_stop_reach_a_study_of_another_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, gate = small_spec(tmp_path, n_trials=4), tmp_path / "gate"
    hold_windows(monkeypatch, gate)
    monkeypatch.setattr(control, "STATE_POLL_S", 0.0)

    def act(action: str) -> str:
        engine = open_engine(spec.database.url)
        (line,) = request_action(engine, "small", action)
        engine.dispose()
        return line

    with forked_study(tmp_path, spec) as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        assert "2 trials run: the running windows are finished first" in act("pause")
        gate.touch()
        until(lambda: not leased(spec), "the trials to be given back")
        gate.unlink()
        assert supervisor.is_alive()
        act("resume")
        until(lambda: len(leased(spec)) == 2, "the trials to go on")
        act("stop")
        gate.touch()
        supervisor.join()
        assert supervisor.exitcode == 0
    assert "small is stopped by action=stop" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert finish_forked(tmp_path, spec) == 0, said(tmp_path)
    assert "small was stopped; this launch resumes it" in said(tmp_path)
    assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT state) FROM trials") == [(4, 1)]
    assert not rows(spec, "SELECT * FROM wf_leases")
    detail = rows(spec, "SELECT detail_json FROM wf_events WHERE kind = 'resume' ORDER BY event_id")
    assert [sorted(json.loads(each)) for (each,) in detail] == [["after_trial"], ["after_trial"]]
