"""Wait for what passes: a database that is away, a lock that was lost, a disk that is full."""

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from optimize import clock
from optimize.errors import DatabaseAwayError, LockLostError
from optimize.results.records import RETRIED
from optimize.results.tables import RUNS
from optimize.study.claims import triage
from optimize.study.claims.judgement import first_line
from optimize.study.claims.triage import SHORTAGES, failure_kind

AWAY_S, LONGEST_S = 2.0, 15.0  # before the second try, and the most between two
LOOK_S = 0.2  # between two looks whether a stop was asked for
WRONG = (DataError, IntegrityError, ProgrammingError)  # a statement that no waiting mends
T = TypeVar("T")


def passes(error: BaseException) -> bool:
    """Say whether an error is a shortage that waiting may end."""
    away = isinstance(error, (DBAPIError, StorageInternalError)) and not isinstance(error, WRONG)
    lost = isinstance(error, (DatabaseAwayError, LockLostError))
    return away or lost or failure_kind(error) in SHORTAGES


@dataclass
class Shortage:
    """For how long something has been short, and when it is tried again."""

    since: float | None = None
    tries: int = 0

    def lasts(self) -> bool:
        """Say whether it has been short for longer than anybody waits."""
        elapsed_s = 0.0 if self.since is None else time.monotonic() - self.since
        return elapsed_s > triage.PATIENCE_S

    def wait(self, why: str, stopping: Callable[[], bool] = lambda: False) -> None:
        """Wait, longer each time, and say so the first time; end early where a stop is asked for."""
        if self.since is None:
            self.since = time.monotonic()
            say(f"waiting up to {triage.PATIENCE_S:.0f} s: {why}")
        until = time.monotonic() + min(AWAY_S * 2**self.tries, LONGEST_S)
        self.tries += 1
        while (left_s := until - time.monotonic()) > 0 and not stopping():
            time.sleep(min(left_s, LOOK_S))

    def over(self) -> None:
        """Begin anew with the next one."""
        if self.since is not None:
            say(f"going on after {time.monotonic() - self.since:.0f} s")
        self.since, self.tries = None, 0


def patiently(act: Callable[[], T]) -> T:
    """Do what may be done twice, again and again while what it needs is short; return what it returns."""
    shortage = Shortage()
    while True:
        try:
            found = act()
        except Exception as error:
            if not passes(error) or shortage.lasts():
                raise
            shortage.wait(in_full(error))
        else:
            shortage.over()
            return found


def short_now(conn: Connection, study: str) -> str | None:
    """Return the shortage that workers of a study wait for: a trial was just given back for it; or None."""
    newest = select(RUNS.c.state, RUNS.c.failure_kind, RUNS.c.failure_message, RUNS.c.finished_at)
    newest = newest.where(RUNS.c.study_name == study, RUNS.c.finished_at.is_not(None))
    last = conn.execute(newest.order_by(RUNS.c.finished_at.desc()).limit(1)).one_or_none()
    if last is None or last.state != RETRIED or last.failure_kind not in SHORTAGES:
        return None
    ago_s = (clock.now() - last.finished_at).total_seconds()
    return f"{last.failure_kind}: {first_line(last.failure_message)}" if ago_s < triage.PATIENCE_S else None


def let_others_renew(engine: Engine) -> None:
    """Give living runs time to renew their leases, once a database answers that was away for all."""
    with engine.connect() as conn:
        conn.execute(text("SELECT COUNT(*) FROM wf_leases"))
    time.sleep(AWAY_S)


def in_full(error: BaseException) -> str:
    """Return an error with its traceback."""
    return "".join(traceback.format_exception(error))


def say(words: str) -> None:
    """Print into the worker's log, where that has room."""
    with suppress(OSError):
        print(words, file=sys.stderr)
