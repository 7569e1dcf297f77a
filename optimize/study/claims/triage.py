"""What a failure means: tried once more, skipped, or the end of the study.

A passing cause (out of memory, a limit of time) is tried once more with the same number, parameters and
seeds. A shortage (a full disk, a database that is away) is no trial's fault: its worker waits and tries
again, and the trial fails only if that lasts. Any other cause would fail again. Where trials fail in a row,
or by the same words, the cause lies in the study and not in a trial, so the study stops itself.
"""

import errno
import re
import traceback
from collections.abc import Iterator
from typing import Any

import optuna
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from optimize import clock
from optimize.database.address import in_words
from optimize.errors import BadInputError, DatabaseAwayError, DownloadError, LockLostError, NumericError
from optimize.results.leases import Lease
from optimize.results.records import (
    FINISHED,
    RETRIED,
    EventRecord,
    Outcome,
    RunRecord,
    last_event,
    log_event,
)
from optimize.results.runs import (
    fail_run,
    finish_run,
    load_run,
    retried,
    retry_run,
    seconds_of,
    short_since,
)
from optimize.results.tables import RUNS
from optimize.study.claims.control import TRIAGE, state_of, stopped_by_triage
from optimize.study.claims.judgement import Ended, Policy, first_line, judge
from optimize.study.handle import Handle

SHORTAGES = frozenset({"disk", "database"})
TRANSIENT = SHORTAGES | {"oom", "timeout"}  # `stale` is retried by take-over
PATIENCE_S = 300.0  # a shortage that lasts longer fails a trial, or ends a worker
LIMIT = "max_failures"  # the rule behind a stop that no single cause explains
NOTABLE = 0.9  # share of the cap from which a stopped study is worth reading
ENDED_LIMIT = 200  # ended trials that a judgement looks at
OUT_OF_MEMORY = re.compile(
    r"std::bad_alloc|DefaultCPUAllocator: can't allocate memory|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|disk is full|requested and \d+ written", re.I
)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SQLITE_AWAY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL"}


def settle(conn: Connection, lease: Lease, outcome: Outcome) -> RunRecord:
    """Store how a run ended; one that failed for a passing reason is given back.

    Storing it again, as whoever got no answer does, changes nothing.
    """
    if outcome.state != "FAIL":
        return finish_run(conn, lease, outcome)
    stored = load_run(conn, lease.run_uuid)
    if stored is not None and stored.state in (*FINISHED, RETRIED):
        return stored
    waits = bool(retried(conn, lease.study_name, lease.trial_number) & SHORTAGES)
    again = _again(conn, lease, outcome.failure_kind)
    run = retry_run(conn, lease, outcome) if again else finish_run(conn, lease, outcome)
    known = waits and run.state == RETRIED and run.failure_kind in SHORTAGES  # said the first time
    return run if known else _logged(conn, run)


def settle_killed(conn: Connection, lease: Lease, kind: str, message: str) -> RunRecord:
    """Store for a run whose worker was killed why it failed; a passing reason gives the trial back.

    Raises StaleRunError where another run has the trial by now.
    """
    if not _again(conn, lease, kind):
        return _logged(conn, fail_run(conn, lease, kind, message))
    outcome = Outcome("FAIL", seconds_of(conn, lease.run_uuid), failure_kind=kind, failure_message=message)
    return _logged(conn, retry_run(conn, lease, outcome))


def _again(conn: Connection, lease: Lease, kind: str | None) -> bool:
    if kind in SHORTAGES:
        since = short_since(conn, lease, SHORTAGES)
        return since is None or (clock.now() - since).total_seconds() <= PATIENCE_S
    return kind in TRANSIENT and not retried(conn, lease.study_name, lease.trial_number) - SHORTAGES


def _logged(conn: Connection, run: RunRecord) -> RunRecord:
    """Keep the decision about a failed run as an event."""
    if run.state not in (RETRIED, "FAIL"):
        return run
    action = "retried" if run.state == RETRIED else "skipped"
    why = why_of(run.state, run.failure_kind)
    message = (
        f"trial {run.trial_number} {action}: {why} ({run.failure_kind}: {first_line(run.failure_message)})"
    )
    detail = {"trial": run.trial_number, "run_uuid": run.run_uuid, "kind": run.failure_kind, "action": action}
    log_event(conn, EventRecord(run.study_name, "triage", message, detail | {"why": why}))
    return run


def why_of(state: str, kind: str | None) -> str:
    """Say why a failed run's trial was tried again, or was not."""
    if state == RETRIED:
        return "the cause may pass"
    if kind == "stale":
        return "its worker died twice within one window"
    return "it failed again" if kind in TRANSIENT else "the same parameters and seeds would fail again"


def gate(handle: Handle) -> str | None:
    """Say under the study lock why no trial may be handed out: PAUSED, STOPPED or SYSTEMATIC; else None.

    A study whose failures are systematic is stopped here, for the workers of all machines.
    """
    name = handle.spec.name
    with handle.engine.begin() as conn:
        state = state_of(conn, name)
        if state != "running":
            own = stopped_by_triage(conn, name) is not None
            return "PAUSED" if state == "paused" else "SYSTEMATIC" if own else "STOPPED"
        found = judge(ended_since_resume(conn, name), policy_of(handle))
        if found.action != "stop":
            return None
        _log_stop(conn, name, found.why, {"causes": list(found.causes)})
        return "SYSTEMATIC"


def stop_at_limit(handle: Handle, failed: int) -> bool:
    """Stop the study, for the workers of all machines, where too many trials failed; say whether they did."""
    allowed = handle.spec.failures_allowed
    if failed < allowed:
        return False
    with handle.engine.begin() as conn:
        if failed - count_stale(conn, handle.spec.name) < allowed:
            return False
        if state_of(conn, handle.spec.name) == "running":
            _log_stop(conn, handle.spec.name, f"{LIMIT}={allowed} trials failed", {"rule": LIMIT})
    return True


def count_stale(conn: Connection, study: str) -> int:
    """Return how many trials failed because their workers died, which counts against no limit."""
    stale = (RUNS.c.study_name == study, RUNS.c.state == "FAIL", RUNS.c.failure_kind == "stale")
    return int(conn.execute(select(func.count()).where(*stale)).scalar_one())


def _log_stop(conn: Connection, study: str, why: str, detail: dict[str, Any]) -> None:
    log_event(conn, EventRecord(study, "stop", why, {"by": TRIAGE, "why": why} | detail))


def policy_of(handle: Handle) -> Policy:
    """Return when failures end this study."""
    return Policy(handle.spec.max_consecutive_failures, handle.spec.max_alike_failures)


def ended_since_resume(conn: Connection, study: str) -> list[Ended]:
    """Return the trials that ended, oldest first, without those from before the last resume."""
    last = last_event(conn, [study], ["resume"])  # each phase has its own, as trials are counted anew
    after = -1 if last is None else (last.detail or {}).get("after_trial", -1)
    return ended_trials(conn, study, after, ENDED_LIMIT)


def ended_trials(conn: Connection, study: str, after: int = -1, limit: int | None = None) -> list[Ended]:
    """Return the newest trials that ended, oldest first, with a number above `after`."""
    columns = (RUNS.c.trial_number, RUNS.c.state, RUNS.c.failure_kind, RUNS.c.failure_message)
    # The sum keeps the number out of the choice of an index: by time the newest come first and few are read.
    told = (RUNS.c.study_name == study, RUNS.c.trial_number + 0 > after, RUNS.c.state.in_(FINISHED))
    newest = select(*columns).where(*told).order_by(RUNS.c.finished_at.desc(), RUNS.c.trial_number.desc())
    rows = conn.execute(newest if limit is None else newest.limit(limit))
    return [Ended(*row) for row in rows][::-1]


def why_stopped(handle: Handle) -> str:
    """Say why a study stopped itself, and what to do."""
    name = handle.spec.name
    with handle.engine.connect() as conn:
        own = stopped_by_triage(conn, name)
    if own is None:  # it was launched again meanwhile
        own = EventRecord(
            name, "stop", f"{LIMIT}={handle.spec.failures_allowed} trials failed", {"rule": LIMIT}
        )
    way = way_on(own, name, in_words(handle.spec.database.url))
    return f"study {name!r} stopped itself: {own.message}: {way}"


def way_on(own: EventRecord, study: str, where: str = "") -> str:
    """Say what to do about a study that stopped itself; `where` names its database."""
    higher = f" with a higher {LIMIT}" if (own.detail or {}).get("rule") == LIMIT else ""
    seen = f"`walkforge status name={study}{where} failures=true`"
    return f"see {seen}, mend the cause, then launch it again{higher}"


def notable(done: int, cap: int, name: str, where: str = "") -> str:
    """Say of a study that ended early how much of it is there, where that is nearly all.

    `where` names its database in a command.
    """
    if not NOTABLE * cap <= done < cap:
        return ""
    return f"; {done} of {cap} finished, enough to read: `walkforge leaderboard name={name}{where}`"


def failed(error: Exception, seconds: float) -> Outcome:
    """Return the outcome of a run that an error ended."""
    return Outcome(
        "FAIL",
        seconds,
        failure_kind=failure_kind(error),
        failure_message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def failure_kind(error: BaseException) -> str:
    """Return the type of a failure, as the study's policy knows it."""
    return next((kind for each in _causes(error) if (kind := _kind(each)) is not None), "bug")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, for wrappers that say nothing themselves."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _kind(error: BaseException) -> str | None:
    if isinstance(error, NumericError):
        return "numeric"
    if isinstance(error, DownloadError):
        return "data"
    if isinstance(error, (DatabaseAwayError, LockLostError)):
        return "database"
    if isinstance(error, BadInputError):
        return "config"
    if isinstance(error, DBAPIError):
        return _database_kind(error)
    if isinstance(error, optuna.exceptions.StorageInternalError):
        return None  # its cause says more
    # torch is no import of this layer: its errors are known by their names.
    own = any(
        c.__name__ == "OutOfMemoryError" and c.__module__.startswith("torch") for c in type(error).__mro__
    )
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if own or no_memory or OUT_OF_MEMORY.search(str(error)):
        return "oom"
    if getattr(error, "errno", None) in NO_ROOM or DISK_FULL.search(str(error)):
        return "disk"
    return None


def _database_kind(error: DBAPIError) -> str | None:
    """Return whether the disk is full or the database away; None where the statement was wrong."""
    if DISK_FULL.search(str(error.orig)):
        return "disk"
    code = getattr(error.orig, "sqlite_errorname", None)
    if code is not None:
        return "database" if any(code.startswith(away) for away in SQLITE_AWAY) else None
    away = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    return "database" if away else None
