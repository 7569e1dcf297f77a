"""Shortages: wait while a database is away, a lock is lost or a disk is full, and try again."""

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from optimize import clock
from optimize.database import Connection, DataError, DBAPIError, Engine, IntegrityError, ProgrammingError
from optimize.errors import DatabaseAwayError, LockLostError
from optimize.results.ended_runs import last_ended
from optimize.results.leases import count_leases
from optimize.results.states import RunState
from optimize.retry import call_with_retries, exponential_s, pause
from optimize.study.failures.classify import SHORTAGES, STORAGE_ERROR, failure_kind
from optimize.study.failures.policy import first_line_of

PATIENCE_S = 300.0  # a shortage that lasts longer fails a trial, or ends a worker
AWAY_S, LONGEST_S = 2.0, 15.0  # before the second try, and the most between two
WRONG = (DataError, IntegrityError, ProgrammingError)  # a statement that no waiting mends
T = TypeVar("T")


def passes(error: BaseException) -> bool:
    """Return whether an error is a shortage that waiting may end."""
    away = isinstance(error, DBAPIError) or type(error).__name__ == STORAGE_ERROR
    away = away and not isinstance(error, WRONG)
    lost = isinstance(error, (DatabaseAwayError, LockLostError))
    return away or lost or failure_kind(error) in SHORTAGES


@dataclass
class Shortage:
    """For how long something has been short, and when it is tried again."""

    since: float | None = None
    tries: int = 0

    def lasts(self) -> bool:
        """Return whether it has lasted longer than the limit of all waits."""
        elapsed_s = 0.0 if self.since is None else time.monotonic() - self.since
        return elapsed_s > PATIENCE_S

    def wait(self, why: str, stopping: Callable[[], bool]) -> None:
        """Wait, longer each time; end early where a stop is asked for."""
        self.begin(why)
        self.tries += 1
        pause(exponential_s(self.tries, AWAY_S, LONGEST_S), stopping)

    def begin(self, why: str) -> None:
        """Print the reason of a wait the first time."""
        if self.since is None:
            self.since = time.monotonic()
            write_log(f"waiting up to {PATIENCE_S:.0f} s: {why}")

    def over(self) -> None:
        """Forget a shortage that has ended."""
        if self.since is not None:
            write_log(f"going on after {time.monotonic() - self.since:.0f} s")
        self.since, self.tries = None, 0


def patiently(act: Callable[[], T]) -> T:
    """Call an idempotent function, retrying while a resource is short."""
    shortage = Shortage()
    found = call_with_retries(
        act,
        passes=passes,
        wait_s=lambda error, tries: exponential_s(tries, AWAY_S, LONGEST_S),
        gives_up=lambda failure: shortage.lasts(),
        report=lambda failure: shortage.begin(in_full(failure.error)),
    )
    shortage.over()
    return found


def short_now(conn: Connection, study: str) -> str | None:
    """Return the shortage that workers of a study wait for: a trial was just given back for it; or None."""
    last = last_ended(conn, study)
    if last is None or last.state != RunState.RETRIED or last.failure_kind not in SHORTAGES:
        return None
    ago_s = (clock.now() - last.finished_at).total_seconds()
    return f"{last.failure_kind}: {first_line_of(last.failure_message)}" if ago_s < PATIENCE_S else None


def let_others_renew(engine: Engine) -> None:
    """Give living runs time to renew their leases, once a database answers that was away for all."""
    with engine.connect() as conn:
        count_leases(conn)
    time.sleep(AWAY_S)


def in_full(error: BaseException) -> str:
    """Return an error with its traceback."""
    return "".join(traceback.format_exception(error))


def write_log(words: str) -> None:
    """Print into the worker's log, where that has room."""
    with suppress(OSError):
        print(words, file=sys.stderr)
