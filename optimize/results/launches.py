"""The launches of a study: the command that goes on with it, and the process that supervises it now."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from optimize.database.address import in_words
from optimize.results.processes import host_name, identity, process_alive, this_host
from optimize.results.records import EventRecord, last_event, log_event
from optimize.results.tables import RUNS

LAUNCH = "launch"  # the kind of its events
PHASES = ("timeframe", "model")


@dataclass(frozen=True)
class Launch:
    """A launch whose process still runs."""

    host: str
    pid: int
    seen: bool  # it runs on this machine, so that its process was seen to live
    began_trials: bool  # a worker took a trial since


@contextmanager
def announced(
    engine: Engine, study: str, kind: str, what: str, overrides: Sequence[str] | None = None
) -> Iterator[None]:
    """Let others see that a part of a launch runs, in which process, and how it ended.

    `overrides` are the words of its command, without secrets; None where nobody typed one.
    """
    process = identity()
    who = {"host": this_host(), "pid": process.pid, "process_started": process.started}
    words = {} if overrides is None else {"overrides": list(overrides)}

    def log(state: str) -> None:
        with engine.begin() as conn:
            log_event(conn, EventRecord(study, kind, f"{what} {state}", {"state": state} | who | words))

    log("runs")
    try:
        yield
    except DBAPIError:  # the database is away: that its process is gone tells the rest
        raise
    except BaseException:
        log("failed")
        raise
    log("passed")


def announced_process(conn: Connection, study: str, kind: str) -> EventRecord | None:
    """Return the event of what was announced in a study and still runs, or None."""
    event = last_event(conn, [study], [kind])
    who = None if event is None else event.detail
    if who is None or who["state"] != "runs":
        return None
    return event if process_alive(who["host"], who["pid"], who["process_started"]) else None


def running_launch(conn: Connection, study: str) -> Launch | None:
    """Return the launch that supervises a study or one of its phases now, or None."""
    event = last_event(conn, _phases(study), [LAUNCH])
    event = None if event is None else announced_process(conn, event.study_name, LAUNCH)
    if event is None:
        return None
    host, pid = event.detail["host"], event.detail["pid"]
    since = (RUNS.c.study_name == event.study_name) & (RUNS.c.started_at >= event.at)
    began = conn.execute(select(func.count()).select_from(RUNS).where(since)).scalar_one()
    return Launch(host_name(host), pid, host == this_host(), bool(began))


def typed_words(conn: Connection, study: str) -> list[str] | None:
    """Return the words of the last launch of a study or its phases, None where no launch left them."""
    event = last_event(conn, _phases(study), [LAUNCH])
    typed = None if event is None else event.detail.get("overrides")
    return None if typed is None else [str(word) for word in typed]


def typed_command(conn: Connection, study: str) -> str | None:
    """Return the command that goes on with a study or its phases, None where no launch left it."""
    typed = typed_words(conn, study)
    return None if typed is None else f"walkforge study {shlex.join(typed)}"


def command_of(conn: Connection, study: str) -> str:
    """Return, quoted for a sentence, the command that goes on with a study or its phases."""
    typed = typed_command(conn, study)
    return in_sentence(typed, study, in_words(conn.engine.url))


def in_sentence(typed: str | None, study: str, database: str) -> str:
    """Return a command quoted for a sentence, and how to make it where nobody stored it."""
    known = f"`walkforge study name={study.partition('.')[0]}{database}` with the settings of its launch"
    return known if typed is None else f"`{typed}`"


def _phases(study: str) -> list[str]:
    base = study.partition(".")[0]
    return [base, *(f"{base}.{phase}" for phase in PHASES)]
