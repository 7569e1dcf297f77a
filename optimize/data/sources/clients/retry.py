"""Retries of requests with growing waits, or with the wait that the source asks for."""

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from optimize import clock
from optimize.data.sources.clients.access import masked_line
from optimize.data.sources.clients.protocol import WaitNotice
from optimize.errors import DownloadError
from optimize.retry import Failure, call_with_retries, exponential_s

Response = TypeVar("Response")

TRIES = 6
FIRST_WAIT_S = 1.0  # doubled after each try
LONGEST_WAIT_S = 300.0  # if a source asks for a longer wait, the download fails
BUSY = (418, 429)  # 418: Binance's ban after ignored 429s
FIRST_EPOCH_S = 1e9  # a larger number of seconds is a time since 1970, a smaller one a wait


class BusyError(Exception):
    """A transient failure of a request; retry_after_s is the wait the source asked for."""

    def __init__(self, error: object, retry_after_s: float | None = None, tries: int | None = None) -> None:
        super().__init__(masked_line(error))
        self.retry_after_s = retry_after_s
        self.tries = tries  # number of tries for this failure; None: TRIES


def request_with_retries(source: str, request: Callable[[], Response], notice: WaitNotice) -> Response:
    """Return the response to a request; after a transient failure retry with a longer wait each time."""

    def wait_s(error: BaseException, tries: int) -> float:
        asked = error.retry_after_s if isinstance(error, BusyError) else None
        return exponential_s(tries, FIRST_WAIT_S) if asked is None else asked

    def gives_up(failure: Failure) -> bool:
        if failure.wait_s > LONGEST_WAIT_S:
            raise DownloadError(f"{source} asks to wait {failure.wait_s:,.0f} s ({failure.error})")
        if failure.tries >= _worth(failure.error):
            raise DownloadError(f"{source} failed {failure.tries} times, the last time with: {failure.error}")
        return False

    def report(failure: Failure) -> None:
        tries = f"try {failure.tries} of {_worth(failure.error)}"
        notice(f"{source}: waiting {failure.wait_s:g} s after {tries} ({failure.error})")

    return call_with_retries(
        request,
        passes=lambda error: isinstance(error, BusyError),
        wait_s=wait_s,
        gives_up=gives_up,
        report=report,
    )


def _worth(error: BaseException) -> int:
    """Return the number of tries for an error."""
    return min(TRIES, (error.tries if isinstance(error, BusyError) else None) or TRIES)


def is_transient(status: int | None) -> bool:
    """Return whether a failure with this HTTP status is transient."""
    return status is not None and (status in BUSY or status >= 500)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the wait in seconds from the headers: Retry-After, or the reset time of the rate limit."""
    texts = {name.lower(): value for name, value in (headers or {}).items()}
    asked = _seconds_until(texts.get("retry-after"))
    if asked is not None or texts.get("x-ratelimit-remaining") != "0":
        return asked
    return _seconds_until(texts.get("x-ratelimit-reset"))


def _seconds_until(text: str | None) -> float | None:
    """Return the wait in seconds from a header's value: a number, a time since 1970 or a date; else None."""
    if text is None:
        return None
    now = clock.now()
    try:
        number = float(text)
        return max(0.0, number - now.timestamp() if number > FIRST_EPOCH_S else number)
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):  # not a date, or a date without a zone
        return None
