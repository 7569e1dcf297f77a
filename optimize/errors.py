"""Errors of the search, on top of those of the market."""

from envs.errors import BadInputError, WalkforgeError, require

__all__ = [
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
    "install_hint",
    "message_of",
    "require",
]


class DownloadError(WalkforgeError):
    """A source of bars failed again and again; what it had given before is kept."""


class DamagedReturnsError(WalkforgeError):
    """The stored returns of a window cannot be read; its row stands."""


class DatabaseAwayError(BadInputError):
    """A database server gives no connection; whoever had one before waits for the next."""


class DatabaseReplacedError(WalkforgeError):
    """A database file is no longer the one that was opened; no waiting brings it back."""


class LockLostError(WalkforgeError):
    """A lock was not held to the end; what it guards is done again under a new one."""


class NumericError(WalkforgeError):
    """A loss, an observation or the ledger became NaN or infinite."""


class OtherStudyError(BadInputError):
    """A launch would measure something else than its study did; one difference a line after the first."""


class StaleRunError(WalkforgeError):
    """This run lost its lease: another run owns the trial now, so nothing may be written."""


class StudyStoppedError(WalkforgeError):
    """The study stopped itself; the message says why."""


def install_hint(extra: str) -> str:
    """Return the command that installs an extra into a checkout, at the versions that are tested."""
    return f"pip install -c constraints.txt -e '.[{extra}]'"


def message_of(error: BaseException) -> str:
    """Return the message of an exception as one line: of a database's error the driver's, without the SQL."""
    driver = getattr(error, "orig", None)
    if driver is None:
        return " ".join(str(error).split())
    return next((line.strip() for line in str(driver).splitlines() if line.strip()), type(driver).__name__)
