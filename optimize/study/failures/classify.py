"""Kinds of failures: whether a failed trial is tried once more or skipped.

A passing cause (out of memory, a limit of time) is tried once more with the same number, parameters and
seeds. A shortage (a full disk, a database that is away) is no trial's fault: its worker waits and tries
again, and the trial fails only if that lasts. Any other cause would fail again.
"""

import errno
import re
import traceback
from collections.abc import Iterator

from optimize.database import DBAPIError, InterfaceError, OperationalError
from optimize.errors import BadInputError, DatabaseAwayError, DownloadError, LockLostError, NumericError
from optimize.results.records import Outcome
from optimize.results.states import FailureKind, RunState

STORAGE_ERROR = "StorageInternalError"  # of Optuna, which the readers of records must not load
SHORTAGES = frozenset({FailureKind.DISK, FailureKind.DATABASE})
TRANSIENT = SHORTAGES | {FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT}  # `stale` is retried by take-over
OUT_OF_MEMORY = re.compile(
    r"std::bad_alloc|DefaultCPUAllocator: can't allocate memory|CUDA error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|disk is full|requested and \d+ written", re.I
)
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SQLITE_AWAY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL"}


def handling_reason(state: str, kind: str | None) -> str:
    """Return why the trial of a failed run was retried or skipped."""
    if state == RunState.RETRIED:
        return "the cause may pass"
    if kind == FailureKind.STALE:
        return "its worker died twice within one window"
    return "it failed again" if kind in TRANSIENT else "the same parameters and seeds would fail again"


def failed(error: Exception, seconds: float) -> Outcome:
    """Return the outcome of a run that an error ended."""
    return Outcome(
        RunState.FAIL,
        seconds,
        failure_kind=failure_kind(error),
        failure_message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def failure_kind(error: BaseException) -> FailureKind:
    """Return the kind of a failure: oom, disk, database, data, config, numeric or bug."""
    return next((kind for each in _causes(error) if (kind := _kind(each)) is not None), FailureKind.BUG)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__


def _kind(error: BaseException) -> FailureKind | None:
    if isinstance(error, NumericError):
        return FailureKind.NUMERIC
    if isinstance(error, DownloadError):
        return FailureKind.DATA
    if isinstance(error, (DatabaseAwayError, LockLostError)):
        return FailureKind.DATABASE
    if isinstance(error, BadInputError):
        return FailureKind.CONFIG
    if isinstance(error, DBAPIError):
        return _database_kind(error)
    if type(error).__name__ == STORAGE_ERROR:
        return None  # Optuna's wrapper; the cause below it decides
    # torch and Optuna are not imported here: their errors are known by their names.
    own = any(
        c.__name__ == "OutOfMemoryError" and c.__module__.startswith("torch") for c in type(error).__mro__
    )
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if own or no_memory or OUT_OF_MEMORY.search(str(error)):
        return FailureKind.OUT_OF_MEMORY
    if getattr(error, "errno", None) in DISK_ERRORS or DISK_FULL.search(str(error)):
        return FailureKind.DISK
    return None


def _database_kind(error: DBAPIError) -> FailureKind | None:
    """Return `disk` for a full disk, `database` for one that is away, None for a wrong statement."""
    if DISK_FULL.search(str(error.orig)):
        return FailureKind.DISK
    code = getattr(error.orig, "sqlite_errorname", None)
    if code is not None:
        return FailureKind.DATABASE if any(code.startswith(away) for away in SQLITE_AWAY) else None
    away = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    return FailureKind.DATABASE if away else None
