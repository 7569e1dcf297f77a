"""The launches of a study: the command that goes on with it, and the process that supervises it now."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from optimize.database.address import in_words, quoted
from optimize.results.processes import host_name, identity, process_alive, this_host
from optimize.results.records import EventRecord, last_event, log_event
from optimize.results.tables import RUNS

LAUNCH = "launch"  # the kind of its events
FOLDER = "folder"  # kind of the event with the folder of a study
DEFAULT_OUTPUT = "studies"
PHASES = ("timeframe", "model")
NO_MEANING = "its scores mean nothing"  # of a study that debug=tiny cut down


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


def is_debug(words: Sequence[str] | None) -> bool:
    """Return whether the words of a command choose a file of the group debug."""
    chosen = [word.partition("=")[2] for word in words or () if word.lstrip("+").startswith("debug=")]
    return bool(chosen) and chosen[-1] not in ("", "null")


def typed_command(conn: Connection, study: str) -> str | None:
    """Return the command that goes on with a study or its phases, None where no launch left it.

    It names the database and the folder as they are found from here: the launch may have begun elsewhere.
    """
    typed = typed_words(conn, study)
    if typed is None:
        return None
    return f"walkforge study {shlex.join(_in_folder(conn, study, typed))}{_in_database(conn, typed)}"


def _in_folder(conn: Connection, study: str, typed: Sequence[str]) -> list[str]:
    """Return the words of a launch with the folder of its files, where they would lead to another one."""
    event = last_event(conn, _phases(study), [FOLDER])
    if event is None or event.detail["host"] != this_host():
        return list(typed)
    named = [word.partition("=")[2].strip("'\"") for word in typed if word.startswith("output_dir=")]
    place, here = Path(event.detail["path"]), Path.cwd()
    if Path(named[-1] if named else DEFAULT_OUTPUT).expanduser().resolve() == place:
        return list(typed)
    near = place.relative_to(here) if place.is_relative_to(here) else place
    return [
        *(word for word in typed if not word.startswith("output_dir=")),
        f"output_dir={quoted(str(near))}",
    ]


def _in_database(conn: Connection, typed: Sequence[str]) -> str:
    """Return the word that names the database, empty where the words of the launch already lead to it."""
    here = in_words(conn.engine.url)
    named = [word.partition("=")[2].strip("'\"") for word in typed if word.startswith("database.url=")]
    if named:
        return "" if in_words(named[-1]) == here else here
    return "" if here.strip() in typed else here


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
