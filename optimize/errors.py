"""Errors of the search, on top of those of the market."""

from envs.errors import BadInputError, WalkforgeError, near_hint, nearest, require

__all__ = [
    "LARGEST_COUNT",
    "BadInputError",
    "DamagedReturnsError",
    "DatabaseAwayError",
    "DatabaseReplacedError",
    "DownloadError",
    "LockLostError",
    "NumericError",
    "OtherStudyError",
    "StaleRunError",
    "StudyStoppedError",
    "WalkforgeError",
    "first_filled_line",
    "install_hint",
    "message_of",
    "near_hint",
    "nearest",
    "require",
    "require_count",
]

LARGEST_COUNT = 2**31 - 1  # of trials, models or seconds: the largest integer of a database column


class DownloadError(WalkforgeError):
    """A source of bars failed again and again; bars received before are kept."""


class DamagedReturnsError(WalkforgeError):
    """The stored returns of a window cannot be read; its row stands."""


class DatabaseAwayError(BadInputError):
    """A database server gives no connection; a process that had one before waits for the next."""


class DatabaseReplacedError(WalkforgeError):
    """A database file is no longer the one that was opened; no waiting brings it back."""


class LockLostError(WalkforgeError):
    """A lock was lost while held; the work under it is repeated under a new lock."""


class NumericError(WalkforgeError):
    """A loss, an observation or the ledger became NaN or infinite."""


class OtherStudyError(BadInputError):
    """A launch would measure something else than its study did; one difference a line after the first."""


class StaleRunError(WalkforgeError):
    """This run lost its lease: another run owns the trial now, so nothing may be written."""


class StudyStoppedError(WalkforgeError):
    """The study stopped itself; the message gives the reason."""


def require_count(key: str, value: int) -> None:
    """Refuse a number of trials or models below 1 or above the largest integer of a database column."""
    require(1 <= value <= LARGEST_COUNT, key, value, f"at least 1 and at most {LARGEST_COUNT}")


def install_hint(extra: str) -> str:
    """Return the command that installs an extra into a checkout, at the versions that are tested."""
    return f"pip install -c constraints.txt -e '.[{extra}]'"


def message_of(error: BaseException) -> str:
    """Return the message of an exception as one line: of a database's error the driver's, without the SQL."""
    driver = getattr(error, "orig", None)
    if driver is None:
        return " ".join(str(error).split())
    return first_filled_line(str(driver)) or type(driver).__name__


def first_filled_line(text: str) -> str:
    """Return the first line of a text that is not empty, without spaces around it; empty if there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
