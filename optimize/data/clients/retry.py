"""Asking again: a source that is busy or out of reach gets time, as much as it asks for."""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from optimize import clock
from optimize.data.clients.access import one_line
from optimize.data.clients.protocol import Notice
from optimize.errors import DownloadError

T = TypeVar("T")

TRIES = 6
FIRST_WAIT_S = 1.0  # doubled after each try
LONGEST_WAIT_S = 300.0  # a source that asks for more is left alone
BUSY = (418, 429)  # 418: binance's word for one who went on after 429
FIRST_EPOCH_S = 1e9  # a larger number of seconds is a time, a smaller one a wait


class BusyError(Exception):
    """A request failed in a way that may pass; retry_after_s is what the source asked for."""

    def __init__(self, error: object, retry_after_s: float | None = None, tries: int | None = None) -> None:
        super().__init__(one_line(error))
        self.retry_after_s = retry_after_s
        self.tries = tries  # how many are worth it; None: the usual number


def ask(source: str, request: Callable[[], T], notice: Notice) -> T:
    """Return what a request returns; while it is busy ask again, each time after a longer wait."""
    for tried in range(1, TRIES + 1):
        try:
            return request()
        except BusyError as busy:
            tries = min(TRIES, busy.tries or TRIES)
            asked = busy.retry_after_s
            wait_s = FIRST_WAIT_S * 2 ** (tried - 1) if asked is None else asked
            if wait_s > LONGEST_WAIT_S:
                raise DownloadError(f"{source} asks to wait {wait_s:,.0f} s ({busy})") from None
            if tried >= tries:
                raise DownloadError(f"{source} failed {tried} times, the last time with: {busy}") from None
            notice(f"{source}: waiting {wait_s:g} s after try {tried} of {tries} ({busy})")
        time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def may_pass(status: int | None) -> bool:
    """Return whether a request that failed with this HTTP status is worth asking again."""
    return status is not None and (status in BUSY or status >= 500)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds to wait that headers ask for: Retry-After, or the end of the rate limit's window."""
    texts = {name.lower(): value for name, value in (headers or {}).items()}
    asked = _seconds_until(texts.get("retry-after"))
    if asked is not None or texts.get("x-ratelimit-remaining") != "0":
        return asked
    return _seconds_until(texts.get("x-ratelimit-reset"))


def _seconds_until(text: str | None) -> float | None:
    """Return the seconds that a header gives, as a number, a time since 1970 or a date; None for others."""
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
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
