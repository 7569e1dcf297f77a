"""Errors of the search, on top of those of the market."""

from envs.errors import BadInputError, WalkforgeError, require

__all__ = [
    "BadInputError",
    "DownloadError",
    "NumericError",
    "StaleRunError",
    "StudyStoppedError",
    "WalkforgeError",
    "require",
]


class DownloadError(WalkforgeError):
    """A source of bars failed again and again; what it had given before is kept."""


class NumericError(WalkforgeError):
    """A loss, an observation or the ledger became NaN or infinite."""


class StaleRunError(WalkforgeError):
    """This run lost its lease: another run owns the trial now, so nothing may be written."""


class StudyStoppedError(WalkforgeError):
    """The study stopped itself; the message says why."""
