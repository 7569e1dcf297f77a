"""Pause, resume and stop a study from anywhere: its latest event of these kinds is its state.

The phases of a study share one state, so that a pause between two phases holds the second.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from optimize.database.address import in_words
from optimize.errors import WalkforgeError, require
from optimize.results.launches import command_of, running_launch
from optimize.results.progress import living_leases
from optimize.results.queries import health_of, studies_of
from optimize.results.records import EventRecord, last_event, load_study, log_event, newest_trial
from optimize.study.handle import Handle
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE

STATES = {"pause": "paused", "resume": "running", "stop": "stopped"}
POLL_S = 2.0
TRIAGE = "triage"


class StoppedByActionError(WalkforgeError):
    """Somebody stopped the study on purpose; the message says how it goes on."""

    exit_code = 0


def phases_of(name: str) -> list[str]:
    """Return every name that shares the state of a study: its own, and those of its phases."""
    base = base_name(name)
    return [base, f"{base}.{TIMEFRAME_PHASE}", f"{base}.{MODEL_PHASE}"]


def base_name(name: str) -> str:
    """Return the name that a person typed for a study or one of its phases."""
    return name.removesuffix(f".{TIMEFRAME_PHASE}").removesuffix(f".{MODEL_PHASE}")


def state_of(conn: Connection, study: str) -> str:
    """Return running, paused or stopped."""
    asked = last_event(conn, phases_of(study), STATES)
    return "running" if asked is None else STATES[asked.kind]


def stopped_by_triage(conn: Connection, study: str) -> EventRecord | None:
    """Return the event by which a study stopped itself, while it is the last word."""
    asked = last_event(conn, phases_of(study), STATES)
    own = asked is not None and asked.kind == "stop" and (asked.detail or {}).get("by") == TRIAGE
    return asked if own else None


def ask(engine: Engine, name: str, action: str) -> list[str]:
    """Pause, resume or stop a study and its phases; return a line for each: what was done, what follows."""
    require(action in STATES, "action", action, f"run, {', '.join(STATES)}")
    return [_ask(engine, study, action) for study in studies_of(engine, name)]


def resume(conn: Connection, study: str, why: str) -> None:
    """Let a study and its phases run on; what failed before this counts against none of them."""
    for phase in phases_of(study):
        if phase == study or load_study(conn, phase) is not None:
            detail = {"after_trial": newest_trial(conn, phase)}
            log_event(conn, EventRecord(phase, "resume", why, detail))


def resume_stopped(handle: Handle, *, launched: bool = True) -> str | None:
    """Let a stopped study run, because it is launched again; return what to say, also of a paused one.

    A phase that follows another in one launch is not `launched`: it resumes nothing, and raises
    StoppedByActionError where somebody stopped the study meanwhile.
    """
    name = handle.spec.name
    if not launched:
        refuse_stopped(handle)
    with handle.engine.begin() as conn:
        state = state_of(conn, name)
        if state == "stopped" and launched:
            resume(conn, name, "launched again")
            return f"{name} was stopped; this launch resumes it"
    if state == "paused":
        return f"{name} is paused: {_way_on(name, in_words(handle.spec.database.url))}"
    return None


def refuse_stopped(handle: Handle) -> None:
    """Raise StoppedByActionError where a study that is not at its cap was stopped by somebody."""
    name = handle.spec.name
    with handle.engine.connect() as conn:
        if state_of(conn, name) != "stopped" or stopped_by_triage(conn, name) is not None:
            return
    raise StoppedByActionError(
        f"study {name} is stopped by action=stop: what it finished is kept, and the same command goes on"
    )


def _ask(engine: Engine, study: str, action: str) -> str:
    with engine.begin() as conn:
        before = state_of(conn, study)
        health = health_of(conn, study)
        done, unfinished = health["complete"] + health["pruned"], health["running"] + health["waiting"]
        record = load_study(conn, study)
        more = record is not None and record.phase == TIMEFRAME_PHASE  # its model phase may come yet
        if done >= (health["cap"] or 0) and not unfinished and not more:
            return f"{study} is at its cap ({done} of {health['cap']}): there is nothing to {action}"
        if before == STATES[action]:
            return f"{study} is {before} already; {_follows(conn, study, action)}"
        if action == "resume":
            resume(conn, study, "asked by action=resume")
        else:
            log_event(conn, EventRecord(study, action, f"asked by action={action}"))
        freed = action == "resume" and not living_leases(conn, study) and running_launch(conn, study) is None
        state = "released" if freed else f"{STATES[action]} now"
        return f"{study} is {state}, {done} of {health['cap']} trials done; {_follows(conn, study, action)}"


def _follows(conn: Connection, study: str, action: str) -> str:
    """Say how many trials run and what happens next."""
    live, launch = len(living_leases(conn, study)), running_launch(conn, study)
    runs = "no trial runs" if live == 0 else "1 trial runs" if live == 1 else f"{live} trials run"
    goes_on = f"{command_of(conn, study)} goes on"
    way_on = _way_on(study, in_words(conn.engine.url))
    if action == "resume":
        if live or launch is not None:
            return f"{runs}: waiting workers go on within seconds; where none is left, {goes_on}"
        joined = "those that joined by `walkforge worker` go on by themselves"
        return f"no worker of a launch is there: {goes_on}; {joined}"
    if live == 0:
        return f"{runs}: {f'workers that come wait; {way_on}' if action == 'pause' else goes_on}"
    ends = "the running windows are finished first and the trials given back"
    rest = f"then the workers wait: {way_on}" if action == "pause" else "then the workers leave"
    return f"{runs}: {ends}, {rest}" + ("" if action == "pause" else f"; {goes_on}")


def _way_on(study: str, where: str) -> str:
    """Say what lets a paused study go on; `where` names its database."""
    return f"`walkforge study name={base_name(study)}{where} action=resume` goes on"


@dataclass
class Watch:
    """Whether a study is still to run, looked up at most every POLL_S seconds."""

    handle: Handle
    state: str = "running"
    looked_at: float = field(default_factory=time.monotonic)

    def __call__(self) -> bool:
        """Say whether the running trial is to be given back after its window."""
        if time.monotonic() - self.looked_at >= POLL_S:
            self.looked_at = time.monotonic()
            try:
                with self.handle.engine.connect() as conn:
                    self.state = state_of(conn, self.handle.spec.name)
            except DBAPIError as error:  # the database is away: who asks for a trial will hear it
                print(f"the state of the study cannot be read: {error}", file=sys.stderr)
        return self.state != "running"


@dataclass
class Notice:
    """What the terminal of a launch hears about a study that is paused, resumed or stopped from elsewhere."""

    handle: Handle
    say: Callable[[str], None]
    state: str = "running"

    def __post_init__(self) -> None:
        self._watch = Watch(self.handle, self.state)

    def show(self) -> None:
        """Say what changed since the last look."""
        self._watch()
        if self._watch.state != self.state:
            self.state = self._watch.state
            name = self.handle.spec.name
            where = in_words(self.handle.spec.database.url)
            way = f": {_way_on(name, where)}" if self.state == "paused" else ""
            self.say(f"{name} is {self.state} now{way}")
