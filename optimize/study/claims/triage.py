"""What a failure means: tried once more, skipped, or the end of the study.

A passing cause (out of memory, a limit of time, a full disk, a database that is away) is tried once more with
the same number, parameters and seeds. Any other would fail again. Where trials fail in a row, or by the same
words, the cause lies in the study and not in a trial, so the study stops itself.
"""

import errno
import re
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from optimize.errors import BadInputError, DownloadError, NumericError
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
from optimize.results.runs import fail_run, finish_run, retried, retry_run, seconds_of
from optimize.results.tables import RUNS
from optimize.study.claims.control import TRIAGE, phases_of, state_of, stopped_by_triage
from optimize.study.handle import Handle

TRANSIENT = frozenset({"oom", "timeout", "disk", "database"})  # `stale` is retried by take-over
REPEATS = 3  # times that the same words make a cause systematic
LAST = 6  # ended trials among which they are looked for
NOTABLE = 0.9  # share of the cap from which a stopped study is worth reading
ENDED_LIMIT = 200  # ended trials that a judgement looks at
OUT_OF_MEMORY = re.compile(
    r"std::bad_alloc|DefaultCPUAllocator: can't allocate memory|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large|disk is full", re.I)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SQLITE_AWAY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL"}
CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[-+]?\d+(?:[._]\d+)*(?:e[-+]?\d+)?", re.I)


@dataclass(frozen=True)
class Ended:
    """A trial that ended, as far as triage looks at it."""

    trial_number: int
    state: str
    kind: str | None = None
    message: str | None = None

    @property
    def signature(self) -> str:
        """Return what two failures of one cause have in common."""
        return f"{self.kind}: {CHANGING.sub('#', first_line(self.message))}"


@dataclass(frozen=True)
class Policy:
    """When failures end a study."""

    max_consecutive: int = 5


@dataclass(frozen=True)
class Judgement:
    """What the failures of a study come to."""

    kind: str  # none, random or systematic
    action: str  # go on, or stop
    why: str


def judge(ended: Sequence[Ended], policy: Policy) -> Judgement:
    """Say whether trials that ended, oldest first, fail by chance or for a reason that will not pass.

    Lost workers (`stale`) say nothing about the study and count neither way.
    """
    told = [each for each in ended if each.kind != "stale"]
    failed = [each for each in told if each.state == "FAIL"]
    if not failed:
        return Judgement("none", "go on", "no trial failed")
    in_a_row = next((n for n, each in enumerate(reversed(told)) if each.state != "FAIL"), len(told))
    if in_a_row >= policy.max_consecutive:
        return _stop(f"{in_a_row} trials in a row failed", told[-1])
    recent = told[-LAST:]
    causes = Counter(each.signature for each in recent if each.state == "FAIL")
    cause, times = causes.most_common(1)[0] if causes else ("", 0)
    if times >= REPEATS and 2 * times >= len(recent):
        same = next(each for each in recent if each.signature == cause)
        return _stop(f"{times} of the last {len(recent)} trials failed in the same way", same)
    share = 100 * len(failed) / len(told)
    why = f"{len(failed)} of {len(told)} ended trials failed ({share:.1f} %), and no cause repeats itself"
    return Judgement("random", "go on", why)


def _stop(why: str, example: Ended) -> Judgement:
    return Judgement("systematic", "stop", f"{why} ({example.kind}: {first_line(example.message)})")


def settle(conn: Connection, lease: Lease, outcome: Outcome) -> RunRecord:
    """Store how a run ended; one that failed for a passing reason, for the first time, is given back."""
    if outcome.state != "FAIL":
        return finish_run(conn, lease, outcome)
    again = _again(conn, lease, outcome.failure_kind)
    run = retry_run(conn, lease, outcome) if again else finish_run(conn, lease, outcome)
    return _logged(conn, run)


def settle_killed(conn: Connection, lease: Lease, kind: str, message: str) -> RunRecord:
    """Store for a run whose worker was killed why it failed; a passing reason gives the trial back.

    Raises StaleRunError where another run has the trial by now.
    """
    if not _again(conn, lease, kind):
        return _logged(conn, fail_run(conn, lease, kind, message))
    outcome = Outcome("FAIL", seconds_of(conn, lease.run_uuid), failure_kind=kind, failure_message=message)
    return _logged(conn, retry_run(conn, lease, outcome))


def _again(conn: Connection, lease: Lease, kind: str | None) -> bool:
    return kind in TRANSIENT and retried(conn, lease.study_name, lease.trial_number) is None


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
        return "it lost its worker twice"
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
        log_event(conn, EventRecord(name, "stop", found.why, {"by": TRIAGE, "why": found.why}))
        return "SYSTEMATIC"


def policy_of(handle: Handle) -> Policy:
    """Return when failures end this study."""
    return Policy(handle.spec.max_consecutive_failures)


def ended_since_resume(conn: Connection, study: str) -> list[Ended]:
    """Return the trials that ended, oldest first, without those from before the last resume."""
    last = last_event(conn, phases_of(study), ["resume"])
    own = last is not None and last.study_name == study
    after = (last.detail or {}).get("after_trial", -1) if own and last is not None else -1
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
    failed = f"max_failures={handle.spec.max_failures} trials failed"
    remedy = f"see `walkforge status name={name} failures=true`, mend the cause, then launch it again"
    with handle.engine.connect() as conn:
        own = stopped_by_triage(conn, name)
    if own is not None:
        return f"study {name!r} stopped itself: {own.message}: {remedy}"
    return f"study {name!r} stopped itself: {failed}: {remedy} with a higher max_failures"


def notable(done: int, cap: int, name: str) -> str:
    """Say of a study that ended early how much of it is there, where that is nearly all."""
    if not NOTABLE * cap <= done < cap:
        return ""
    return f"; {done} of {cap} complete, enough to read: `walkforge leaderboard name={name}`"


def first_line(message: str | None) -> str:
    """Return the first line of a message, shortened to what fits on a screen."""
    line = next(iter((message or "no message").strip().splitlines()), "no message")
    return line if len(line) <= 200 else f"{line[:199]}…"


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
