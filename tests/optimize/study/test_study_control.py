"""Pause, resume and stop, from another terminal."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import Connection

from optimize.database import open_engine
from optimize.errors import BadInputError
from optimize.results.leases import Lease
from optimize.results.records import EventRecord, WindowRecord, log_event
from optimize.results.runs import save_window
from optimize.study.claims import control
from optimize.study.claims.caps import Verdict, claim
from optimize.study.claims.control import (
    StoppedByActionError,
    Watch,
    ask,
    refuse_stopped,
    resume_stopped,
    state_of,
)
from optimize.study.handle import Handle
from optimize.study.runner import run_study
from optimize.study.workers.process import EXIT_DONE, ground_source, run_claims
from tests.optimize.study.databases import Small
from tests.optimize.study.processes import finish, leased, said, study_process, until
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


def state(handle: Handle) -> str:
    with handle.engine.connect() as conn:
        return state_of(conn, handle.spec.name)


def next_claim(handle: Handle) -> object:
    return claim(handle, 0, ground_source(handle))


def test_a_paused_study_hands_out_nothing_until_it_is_resumed(small: Small) -> None:
    handle = opened(small(n_trials=2))
    assert state(handle) == "running"
    play(handle, 1)
    (line,) = ask(handle.engine, "small", "pause")
    assert "small is paused now, 1 of 2 trials done; no trial runs" in line
    assert "action=resume" in line
    assert next_claim(handle) is Verdict.PAUSED
    assert "small is paused already" in ask(handle.engine, "small", "pause")[0]
    assert "small is paused:" in str(resume_stopped(handle))  # a launch waits too
    assert next_claim(handle) is Verdict.PAUSED
    assert "small is released" in ask(handle.engine, "small", "resume")[0]
    assert play(handle) is Verdict.FULL


def test_a_stopped_study_lets_its_workers_go_until_it_is_launched_again(small: Small) -> None:
    handle = opened(small(n_trials=2))
    claimed(handle)
    (line,) = ask(handle.engine, "small", "stop")
    assert "1 trial runs: the running windows are finished first" in line
    assert run_claims(handle, 0, never) == EXIT_DONE
    assert next_claim(handle) is Verdict.STOPPED
    with pytest.raises(
        StoppedByActionError, match=r"stopped by action=stop.*the same command goes on"
    ) as left:
        refuse_stopped(handle)
    assert left.value.exit_code == 0
    assert "this launch resumes it" in str(resume_stopped(handle))
    assert resume_stopped(handle) is None
    refuse_stopped(handle)


def test_a_running_trial_ends_its_window_and_is_given_back(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.0)
    handle = opened(small(n_trials=1))
    ran = change_windows(monkeypatch, unchanged)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert rows(handle.spec, "SELECT losses, renewed_at FROM wf_leases") == [(0, 0.0)]
        ask(handle.engine, "small", "resume")

    monkeypatch.setattr("optimize.study.workers.process.time.sleep", sleep)
    after_first_window(monkeypatch, lambda: ask(handle.engine, "small", "pause"))
    assert run_claims(handle, 0, never) == EXIT_DONE
    assert ran == [0, 1]
    assert len(waits) == 1
    assert states(handle) == {"COMPLETE": 1}
    assert rows(handle.spec, "SELECT state FROM wf_runs ORDER BY attempt") == [("LOST",), ("COMPLETE",)]


def after_first_window(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act once, when a window is stored."""
    acted: list[bool] = []

    def save(conn: Connection, lease: Lease, window: WindowRecord) -> None:
        save_window(conn, lease, window)
        if not acted:
            acted.append(True)
            conn.commit()  # what follows is another terminal's
            act()

    monkeypatch.setattr("optimize.study.claims.perform.save_window", save)


def test_the_state_is_looked_up_seldom(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = opened(small())
    now = [100.0]
    monkeypatch.setattr("optimize.study.claims.control.time.monotonic", lambda: now[0])
    watch = Watch(handle, looked_at=now[0])
    ask(handle.engine, "small", "stop")
    now[0] += 1.9
    assert not watch()
    now[0] += 0.2
    assert watch()


def test_phases_share_one_state(small: Small) -> None:
    first = opened(small(name="small.timeframe", n_trials=1))
    play(first)
    (line,) = ask(first.engine, "small", "pause")  # between the phases
    assert "small.timeframe is paused now" in line
    second = opened(small(name="small.model", n_trials=1))
    assert next_claim(second) is Verdict.PAUSED
    assert len(ask(first.engine, "small", "resume")) == 2
    assert play(second) is Verdict.FULL


def test_there_is_nothing_to_do_with_a_study_at_its_cap_or_one_that_is_not_there(small: Small) -> None:
    handle = opened(small(n_trials=1))
    play(handle)
    assert ask(handle.engine, "small", "pause") == ["small is at its cap (1 of 1): there is nothing to pause"]
    assert state(handle) == "running"
    with pytest.raises(BadInputError, match=r"no such study.*did you mean small"):
        ask(handle.engine, "smal", "pause")
    with pytest.raises(BadInputError, match=r"action='halt' is not allowed"):
        ask(handle.engine, "small", "halt")


def test_another_word_of_the_same_kind_later_wins(small: Small) -> None:
    handle = opened(small())
    with handle.engine.begin() as conn:
        log_event(conn, EventRecord("small", "stop", "x"))
        log_event(conn, EventRecord("other", "pause", "x"))
        log_event(conn, EventRecord("small", "note_failed", "x"))
    assert state(handle) == "stopped"


def test_a_lower_cap_takes_nothing_back(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=3)
    assert play(opened(spec)) is Verdict.FULL
    heard = io.StringIO()
    run_study(dataclasses.replace(spec, n_trials=2), Console(file=heard, width=200))
    assert "small: 3 trials done and kept, the cap is now 2, nothing to run" in heard.getvalue()


@pytest.mark.slow
def test_pause_resume_and_stop_reach_a_study_of_another_terminal(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=6)
    long = "agent.total_timesteps=2000"

    def act(action: str) -> str:
        engine = open_engine(spec.database.url)
        (line,) = ask(engine, "small", action)
        engine.dispose()
        return line

    with study_process(tmp_path, spec, long) as supervisor:
        until(lambda: len(leased(spec)) == 2, "two trials to start")
        assert "2 trials run: the running windows are finished first" in act("pause")
        until(lambda: not leased(spec), "the trials to be given back")
        assert supervisor.poll() is None
        act("resume")
        until(lambda: len(leased(spec)) == 2, "the trials to go on")
        act("stop")
        assert supervisor.wait(60) == 0
    assert "small is stopped by action=stop" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert finish(tmp_path, spec, long) == 0, said(tmp_path)
    assert "small was stopped; this launch resumes it" in said(tmp_path)
    assert rows(spec, "SELECT COUNT(*), COUNT(DISTINCT state) FROM trials") == [(6, 1)]
    assert not rows(spec, "SELECT * FROM wf_leases")
    detail = rows(spec, "SELECT detail_json FROM wf_events WHERE kind = 'resume' ORDER BY event_id")
    assert [sorted(json.loads(each)) for (each,) in detail] == [["after_trial"], ["after_trial"]]
