"""Pause, resume and stop a study from anywhere: its latest event of these kinds is its state.

The phases of a study share one state, so that a pause between two phases holds the second.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, RowMapping, text
from sqlalchemy.exc import DBAPIError

from optimize.database import server_time
from optimize.errors import WalkforgeError, require
from optimize.results import leases
from optimize.results.queries import studies_of
from optimize.results.records import EventRecord, last_event, load_study, log_event, newest_trial
from optimize.study.handle import Handle
from optimize.study.spec import MODEL_PHASE, TIMEFRAME_PHASE

STATES = {"pause": "paused", "resume": "running", "stop": "stopped"}
POLL_S = 2.0
TRIAGE = "triage"
HEALTH = text("SELECT cap, complete, pruned, running FROM study_health WHERE study_name = :name")


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
    """Let a study run on; what failed before this does not count against it."""
    detail = {"after_trial": newest_trial(conn, study)}
    log_event(conn, EventRecord(study, "resume", why, detail))


def resume_stopped(handle: Handle) -> str | None:
    """Let a stopped study run, because it is launched again; return what to say, also of a paused one."""
    name = handle.spec.name
    with handle.engine.begin() as conn:
        state = state_of(conn, name)
        if state == "stopped":
            resume(conn, name, "launched again")
            return f"{name} was stopped; this launch resumes it"
    if state == "paused":
        return f"{name} is paused: {_way_on(name)}"
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
        health = conn.execute(HEALTH, {"name": study}).mappings().one()
        done = health["complete"] + health["pruned"]
        record = load_study(conn, study)
        more = record is not None and record.phase == TIMEFRAME_PHASE  # its model phase may come yet
        if done >= (health["cap"] or 0) and not health["running"] and not more:
            return f"{study} is at its cap ({done} of {health['cap']}): there is nothing to {action}"
        if before == STATES[action]:
            return f"{study} is {before} already; {_follows(conn, study, action, health)}"
        if action == "resume":
            resume(conn, study, "asked by action=resume")
        else:
            log_event(conn, EventRecord(study, action, f"asked by action={action}"))
        return f"{study} is {STATES[action]} now, {done} of {health['cap']} trials done; " + _follows(
            conn, study, action, health
        )


def _follows(conn: Connection, study: str, action: str, health: RowMapping) -> str:
    """Say how many trials run and what happens next."""
    now = server_time(conn)
    away = {lease.run_uuid for lease in leases.lost(conn, study, now, leases.owner_alive)}
    live = sum(lease.run_uuid not in away for lease in leases.active(conn, study))
    runs = "no trial runs" if live == 0 else "1 trial runs" if live == 1 else f"{live} trials run"
    command = f"`walkforge study name={base_name(study)}`"
    if action == "resume":
        return f"{runs}: waiting workers go on within seconds; where none is left, {command} starts them"
    if live == 0:
        waits = f"workers that come wait until {command[:-1]} action=resume`"
        return f"{runs}: {waits if action == 'pause' else f'{command} goes on'}"
    ends = "the running windows are finished first and the trials given back"
    rest = f"then the workers wait: {_way_on(study)}" if action == "pause" else "then the workers leave"
    return f"{runs}: {ends}, {rest}" + ("" if action == "pause" else f"; {command} goes on")


def _way_on(study: str) -> str:
    return f"`walkforge study name={base_name(study)} action=resume` goes on"


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
            way = f": {_way_on(name)}" if self.state == "paused" else ""
            self.say(f"{name} is {self.state} now{way}")
