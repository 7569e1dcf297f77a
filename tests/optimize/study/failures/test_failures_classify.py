"""The kind of a failure follows from its error."""

import errno
import sqlite3

import optuna
import pytest
import torch
from sqlalchemy.exc import DBAPIError, OperationalError

from optimize.errors import BadInputError, DownloadError, NumericError
from optimize.study.failures.classify import failure_kind


class TorchlikeError(RuntimeError):
    pass


def sqlite_error(code: int, name: str, message: str) -> DBAPIError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return OperationalError("SELECT 1", {}, error)


def wrapped(cause: BaseException) -> BaseException:
    error = optuna.exceptions.StorageInternalError("see the cause")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (KeyError("no memory of this"), "bug"),
        (ValueError("a lapse of memory"), "bug"),
        (TorchlikeError("shared memory is a fine thing"), "bug"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError("[Errno 28] Error writing bytes. Detail: [errno 28] No space left on device"), "disk"),
        (OSError("94176 requested and 61408 written"), "disk"),  # as numpy words it
        (sqlite_error(13, "SQLITE_FULL", "database or disk is full"), "disk"),
        (sqlite_error(5, "SQLITE_BUSY", "database is locked"), "database"),
        (sqlite_error(1, "SQLITE_ERROR", "no such table: x"), "bug"),
        (wrapped(sqlite_error(10, "SQLITE_IOERR_READ", "disk I/O error")), "database"),
        (NumericError("the loss is not finite"), "numeric"),
        (DownloadError("the source is away"), "data"),
        (BadInputError("agent.batch_size=1 is not allowed"), "config"),
        (ZeroDivisionError("division by zero"), "bug"),
    ],
)
def test_the_kind_of_a_failure_is_exact(error: Exception, kind: str) -> None:
    assert failure_kind(error) == kind
