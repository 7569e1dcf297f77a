"""Launches of a study: the running process, its progress, and the command that resumes the study."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import DBAPIError

from optimize.database import server_time
from optimize.database.address import in_words, quote_for_hydra
from optimize.results.event_log import Logged, last_event, log_event
from optimize.results.events import FolderMarked, LaunchEvent, PreflightEvent, ProcessEvent, Progress
from optimize.results.leases import Lease, active, is_lost, owner_alive
from optimize.results.processes import host_name, identity, process_alive, this_host
from optimize.results.states import RunState
from optimize.results.study_names import PHASE_NAMES
from optimize.results.tables import RUNS, WINDOWS

DEFAULT_OUTPUT = "studies"
P = TypeVar("P", bound=ProcessEvent)
NO_MEANING = "its scores mean nothing"  # of a study that debug=tiny cut down


@dataclass(frozen=True)
class Launch:
    """A launch whose process still runs."""

    host: str
    pid: int
    seen: bool  # it runs on this machine, where its process was found
    began_trials: bool  # a worker took a trial since


@contextmanager
def log_process(
    engine: Engine, study: str, kind: type[ProcessEvent], name: str, overrides: Sequence[str] | None = None
) -> Iterator[None]:
    """Log that a part of a launch runs in this process, and how it ended.

    `overrides` are the arguments of its command, without secrets; None where it had none.
    """
    process = identity()
    words = None if overrides is None else tuple(overrides)

    def log(state: Progress) -> None:
        with engine.begin() as conn:
            event = kind(state, this_host(), process.pid, process.started, words)
            log_event(conn, study, f"{name} {state}", event)

    log(Progress.RUNS)
    try:
        yield
    except DBAPIError:  # the database is away: other processes find that this one ended
        raise
    except BaseException:
        log(Progress.FAILED)
        raise
    log(Progress.PASSED)


def announced_process(conn: Connection, study: str, kind: type[P]) -> Logged[P] | None:
    """Return the event of the part of a launch that still runs, or None."""
    logged = last_event(conn, [study], [kind])
    if logged is None or logged.event.state != Progress.RUNS:
        return None
    event = logged.event
    return logged if process_alive(event.host, event.pid, event.process_started) else None


def running_launch(conn: Connection, study: str) -> Launch | None:
    """Return the launch that supervises a study or one of its phases now, or None."""
    last = last_event(conn, _phases(study), [LaunchEvent])
    logged = None if last is None else announced_process(conn, last.study_name, LaunchEvent)
    if logged is None:
        return None
    host, pid = logged.event.host, logged.event.pid
    since = (RUNS.c.study_name == logged.study_name) & (RUNS.c.started_at >= logged.at)
    began = conn.execute(select(func.count()).select_from(RUNS).where(since)).scalar_one()
    return Launch(host_name(host), pid, host == this_host(), bool(began))


def typed_words(conn: Connection, study: str) -> list[str] | None:
    """Return the arguments of the last launch of a study or its phases, or None."""
    logged = last_event(conn, _phases(study), [LaunchEvent])
    return None if logged is None or logged.event.overrides is None else list(logged.event.overrides)


def is_debug(words: Sequence[str] | None) -> bool:
    """Return whether the arguments of a command choose a file of the group debug."""
    chosen = [word.partition("=")[2] for word in words or () if word.lstrip("+").startswith("debug=")]
    return bool(chosen) and chosen[-1] not in ("", "null")


def typed_command(conn: Connection, study: str) -> str | None:
    """Return the command that resumes a study or its phases, or None where no launch stored its arguments.

    It names the database and the folder relative to the present working directory.
    """
    typed = typed_words(conn, study)
    if typed is None:
        return None
    return f"walkforge study {shlex.join(_in_folder(conn, study, typed))}{_in_database(conn, typed)}"


def _in_folder(conn: Connection, study: str, typed: Sequence[str]) -> list[str]:
    """Return the arguments of a launch, with output_dir where they would lead to another folder from here."""
    logged = last_event(conn, _phases(study), [FolderMarked])
    if logged is None or logged.event.host != this_host():
        return list(typed)
    named = [word.partition("=")[2].strip("'\"") for word in typed if word.startswith("output_dir=")]
    place, here = Path(logged.event.path), Path.cwd()
    if Path(named[-1] if named else DEFAULT_OUTPUT).expanduser().resolve() == place:
        return list(typed)
    near = place.relative_to(here) if place.is_relative_to(here) else place
    return [
        *(word for word in typed if not word.startswith("output_dir=")),
        f"output_dir={quote_for_hydra(str(near))}",
    ]


def _in_database(conn: Connection, typed: Sequence[str]) -> str:
    """Return the argument that names the database, empty where those of the launch lead to it from here."""
    here = in_words(conn.engine.url)
    named = [word.partition("=")[2].strip("'\"") for word in typed if word.startswith("database.url=")]
    if named:
        return "" if in_words(named[-1]) == here else here
    return "" if here.strip() in typed else here


def command_of(conn: Connection, study: str) -> str:
    """Return the command that resumes a study or its phases, quoted for a sentence."""
    typed = typed_command(conn, study)
    return in_sentence(typed, study, in_words(conn.engine.url))


def in_sentence(typed: str | None, study: str, database: str) -> str:
    """Return a command quoted for a sentence, or a description of it where none is stored."""
    known = f"`walkforge study name={study.partition('.')[0]}{database}` with the settings of its launch"
    return known if typed is None else f"`{typed}`"


def _phases(study: str) -> list[str]:
    base = study.partition(".")[0]
    return [base, *(f"{base}.{phase}" for phase in PHASE_NAMES)]


_RUNNING_SCORES = text(
    "SELECT t.number, v.step, v.intermediate_value FROM studies s "
    "JOIN trials t ON t.study_id = s.study_id AND t.state = 'RUNNING' "
    "JOIN trial_intermediate_values v ON v.trial_id = t.trial_id AND v.intermediate_value IS NOT NULL "
    "WHERE s.study_name = :name ORDER BY t.number, v.step"
)
_COLUMNS = (
    RUNS.c.run_uuid,
    RUNS.c.trial_number,
    RUNS.c.attempt,
    RUNS.c.state,
    RUNS.c.score,
    RUNS.c.reason,
    RUNS.c.failure_kind,
    RUNS.c.failure_message,
    RUNS.c.seconds,
    RUNS.c.finished_at,
    RUNS.c.gate,
)


@dataclass(frozen=True)
class EndedRun:
    """A run with an outcome."""

    run_uuid: str
    trial_number: int
    attempt: int
    state: RunState
    score: float | None
    reason: str | None
    failure_kind: str | None
    failure_message: str | None
    seconds: float | None
    finished_at: datetime
    gate: str | None = None  # that keeps it out of every ranking


@dataclass(frozen=True)
class LivingRun:
    """A run that holds a trial now."""

    host: str
    pid: int
    worker: int
    trial_number: int
    windows: int  # finished, each repeat counted
    score: float | None  # over the finished windows


def ended_since(conn: Connection, study: str, since: datetime | None) -> list[EndedRun]:
    """Return the runs that ended at or after a time, in the order they ended; None: all of them."""
    ended = select(*_COLUMNS).where(RUNS.c.study_name == study, RUNS.c.finished_at.is_not(None))
    if since is not None:
        ended = ended.where(RUNS.c.finished_at >= since)
    rows = conn.execute(ended.order_by(RUNS.c.finished_at, RUNS.c.trial_number, RUNS.c.attempt))
    return [EndedRun(**row) for row in rows.mappings()]


def preflighting(conn: Connection, study: str) -> tuple[str, int] | None:
    """Return the host and the process in which a study's preflight runs now, or None."""
    logged = announced_process(conn, study, PreflightEvent)
    return None if logged is None else (host_name(logged.event.host), logged.event.pid)


def time_left(trials: int, seconds_per_trial: float | None, workers: int) -> float | None:
    """Return the seconds that the remaining trials take; None before a trial finished.

    Pauses and the start of workers do not count; each trial takes one worker.
    """
    if trials <= 0:
        return 0.0
    if workers < 1 or seconds_per_trial is None:
        return None
    return seconds_per_trial * max(1.0, trials / workers)


def living_leases(conn: Connection, study: str) -> list[Lease]:
    """Return the leases that have not expired and whose process is not known to have ended."""
    now = server_time(conn)
    return [lease for lease in active(conn, study) if not is_lost(lease, now, owner_alive)]


def living(conn: Connection, study: str) -> list[LivingRun]:
    """Return the runs that hold a trial, by trial number."""
    held = living_leases(conn, study)
    uuids = [lease.run_uuid for lease in held]
    counted = select(WINDOWS.c.run_uuid, func.count()).where(WINDOWS.c.run_uuid.in_(uuids))
    finished: Mapping[str, int] = {
        uuid: count for uuid, count in conn.execute(counted.group_by(WINDOWS.c.run_uuid))
    }
    # The last step of each trial counts, as steps are sorted.
    scores = {number: value for number, _, value in conn.execute(_RUNNING_SCORES, {"name": study})}
    return [
        LivingRun(
            lease.host,
            lease.pid,
            lease.worker,
            lease.trial_number,
            finished.get(lease.run_uuid, 0),
            scores.get(lease.trial_number),
        )
        for lease in held
    ]
