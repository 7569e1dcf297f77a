"""Pause, resume and stop a study from any machine: its state is its latest event of these kinds.

The phases of a study share one state, so that a pause in phase 1 also holds phase 2.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from optimize.database import Connection, DBAPIError, Engine
from optimize.database.address import in_words
from optimize.errors import WalkforgeError, require
from optimize.results.event_log import Logged, last_event, log_event
from optimize.results.events import Paused, Resumed, Stopped
from optimize.results.launches import command_of, living_leases, running_launch
from optimize.results.queries import health_of, studies_of
from optimize.results.records import load_study, newest_trial
from optimize.results.states import StudyState
from optimize.results.study_names import searched_name, typed_name
from optimize.search.spec import MODEL_PHASE, TIMEFRAME_PHASE

if TYPE_CHECKING:  # `walkforge status` reads this module and must not load Optuna
    from optimize.study.context import StudyContext

REQUESTS = (Paused, Resumed, Stopped)
STATE_AFTER = {
    "pause": StudyState.PAUSED,
    "resume": StudyState.RUNNING,
    "stop": StudyState.STOPPED,
}  # after each action
STATE_POLL_S = 2.0


class NoTrial(Enum):
    """Reason why no trial can be claimed."""

    FULL = "the cap is reached and every trial has ended"
    WAIT = "every trial runs elsewhere, and a worker there may yet be lost"
    FAILING = "too many trials failed"
    SYSTEMATIC = "the study stopped itself, because its failures have a cause that will not pass"
    SHORT = "the disk is full or the database away, so a trial was given back before it began"
    PAUSED = "the study is paused"
    STOPPED = "the study is stopped"


class StoppedByActionError(WalkforgeError):
    """The study was stopped with action=stop; the message has the command that resumes it."""

    exit_code = 0


def phases_of(name: str) -> list[str]:
    """Return every name that shares the state of a study: its own, those of its phases, and the search's own.

    The studies of a nested walk-forward are stopped and resumed with the study that they belong to.
    """
    bases = dict.fromkeys([base_name(name), searched_name(name)])
    return [f"{base}{phase}" for base in bases for phase in ("", f".{TIMEFRAME_PHASE}", f".{MODEL_PHASE}")]


def base_name(name: str) -> str:
    """Return the name that a person gave to a study."""
    return typed_name(name)


def state_of(conn: Connection, study: str) -> StudyState:
    """Return the state that a study and its phases share."""
    asked = last_event(conn, phases_of(study), REQUESTS)
    return StudyState.RUNNING if asked is None else STATE_AFTER[asked.event.kind]


def stopped_by_triage(conn: Connection, study: str) -> Logged[Stopped] | None:
    """Return the event by which a study stopped itself after failures, None if it was resumed since."""
    asked = last_event(conn, phases_of(study), REQUESTS)
    if asked is None or not isinstance(asked.event, Stopped) or not asked.event.by_failures:
        return None
    return Logged(asked.study_name, asked.message, asked.event, asked.at)


def request_action(engine: Engine, name: str, action: str) -> list[str]:
    """Pause, resume or stop a study and its phases; return a line of the effect on each."""
    require(action in STATE_AFTER, "action", action, f"run, {', '.join(STATE_AFTER)}", STATE_AFTER)
    return [_request_action(engine, study, action) for study in studies_of(engine, name)]


def set_running(conn: Connection, study: str, why: str) -> None:
    """Set a study and its phases to running; earlier failures no longer count toward a stop."""
    for phase in phases_of(study):
        if phase == study or load_study(conn, phase) is not None:
            log_event(conn, phase, why, Resumed(newest_trial(conn, phase)))


def resume_stopped(context: "StudyContext", *, launched: bool = True) -> str | None:
    """Resume a stopped study that is launched again; return a line about a stopped or paused one.

    A phase that follows another in one launch is not `launched`: it resumes nothing, and raises
    StoppedByActionError if the study was stopped meanwhile.
    """
    name = context.spec.name
    if not launched:
        refuse_stopped(context)
    with context.engine.begin() as conn:
        state = state_of(conn, name)
        if state == StudyState.STOPPED and launched:
            set_running(conn, name, "launched again")
            return f"{name} was stopped; this launch resumes it"
    if state == StudyState.PAUSED:
        return f"{name} is paused: {_resume_hint(name, in_words(context.spec.database.url))}"
    return None


def refuse_stopped(context: "StudyContext") -> None:
    """Raise StoppedByActionError if the study was stopped with action=stop."""
    name = context.spec.name
    with context.engine.connect() as conn:
        if state_of(conn, name) != StudyState.STOPPED or stopped_by_triage(conn, name) is not None:
            return
    raise StoppedByActionError(
        f"study {name} is stopped by action=stop: its finished trials are kept; the same command resumes it"
    )


def _request_action(engine: Engine, study: str, action: str) -> str:
    with engine.begin() as conn:
        before = state_of(conn, study)
        health = health_of(conn, study)
        done, unfinished = health["complete"] + health["pruned"], health["running"] + health["waiting"]
        record = load_study(conn, study)
        # The model phase, or the studies of a nested walk-forward, may follow.
        more = record is not None and (record.phase == TIMEFRAME_PHASE or bool(record.spec.get("nested")))
        if done >= (health["cap"] or 0) and not unfinished and not more:
            return f"{study} is at its cap ({done} of {health['cap']}): there is nothing to {action}"
        if before == STATE_AFTER[action]:
            return f"{study} is {before} already; {_consequence(conn, study, action)}"
        if action == "resume":
            set_running(conn, study, "asked by action=resume")
        else:
            log_event(conn, study, f"asked by action={action}", Paused() if action == "pause" else Stopped())
        freed = action == "resume" and not living_leases(conn, study) and running_launch(conn, study) is None
        state = "released" if freed else f"{STATE_AFTER[action]} now"
        return (
            f"{study} is {state}, {done} of {health['cap']} trials done; {_consequence(conn, study, action)}"
        )


def _consequence(conn: Connection, study: str, action: str) -> str:
    """Return the number of running trials and the consequence of an action."""
    live, launch = len(living_leases(conn, study)), running_launch(conn, study)
    runs = "no trial runs" if live == 0 else "1 trial runs" if live == 1 else f"{live} trials run"
    goes_on = f"{command_of(conn, study)} goes on"
    remedy = _resume_hint(study, in_words(conn.engine.url))
    if action == "resume":
        if live or launch is not None:
            return f"{runs}: waiting workers go on within seconds; where none is left, {goes_on}"
        joined = "those that joined by `walkforge worker` go on by themselves"
        return f"no worker of a launch is there: {goes_on}; {joined}"
    if live == 0:
        return f"{runs}: {f'workers that come wait; {remedy}' if action == 'pause' else goes_on}"
    ends = "the running windows are finished first and the trials given back"
    rest = f"then the workers wait: {remedy}" if action == "pause" else "then the workers leave"
    return f"{runs}: {ends}, {rest}" + ("" if action == "pause" else f"; {goes_on}")


def _resume_hint(study: str, where: str) -> str:
    """Return the command that resumes a paused study; `where` names its database."""
    return f"`walkforge study name={base_name(study)}{where} action=resume` goes on"


@dataclass
class StateReader:
    """State of a study, read at most every POLL_S seconds."""

    context: "StudyContext"
    state: StudyState = StudyState.RUNNING
    looked_at: float = field(default_factory=time.monotonic)

    def __call__(self) -> bool:
        """Return whether the study is paused or stopped, so that the running trial ends after its window."""
        if time.monotonic() - self.looked_at >= STATE_POLL_S:
            self.looked_at = time.monotonic()
            try:
                with self.context.engine.connect() as conn:
                    self.state = state_of(conn, self.context.spec.name)
            except DBAPIError as error:  # the next claim reports the database
                print(f"the state of the study cannot be read: {error}", file=sys.stderr)
        return self.state != StudyState.RUNNING


@dataclass
class StateNotice:
    """Prints on the terminal of a launch that its study was paused, resumed or stopped from elsewhere."""

    context: "StudyContext"
    echo: Callable[[str], None]
    state: StudyState = StudyState.RUNNING

    def __post_init__(self) -> None:
        self._enforce_limits = StateReader(self.context, self.state)

    def show(self) -> None:
        """Print the state if it changed since the last call."""
        self._enforce_limits()
        if self._enforce_limits.state != self.state:
            self.state = self._enforce_limits.state
            name = self.context.spec.name
            where = in_words(self.context.spec.database.url)
            way = f": {_resume_hint(name, where)}" if self.state == StudyState.PAUSED else ""
            self.echo(f"{name} is {self.state} now{way}")
