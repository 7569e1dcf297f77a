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


class BusyError(Exception):
    """A request failed in a way that may pass; retry_after_s is what the source asked for."""

    def __init__(self, error: object, retry_after_s: float | None = None) -> None:
        super().__init__(one_line(error))
        self.retry_after_s = retry_after_s


def ask(source: str, request: Callable[[], T], notice: Notice) -> T:
    """Return what a request returns; while it is busy ask again, each time after a longer wait."""
    for tried in range(1, TRIES + 1):
        try:
            return request()
        except BusyError as busy:
            asked = busy.retry_after_s
            wait_s = FIRST_WAIT_S * 2 ** (tried - 1) if asked is None else asked
            if wait_s > LONGEST_WAIT_S:
                raise DownloadError(f"{source} asks to wait {wait_s:,.0f} s ({busy})") from None
            if tried == TRIES:
                said = f"{source} failed {TRIES} times, the last time with: {busy}"
                raise DownloadError(f"{said}; check the network and type the same again") from None
            notice(f"{source}: waiting {wait_s:g} s after try {tried} of {TRIES} ({busy})")
        time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def may_pass(status: int | None) -> bool:
    """Return whether a request that failed with this HTTP status is worth asking again."""
    return status is not None and (status in BUSY or status >= 500)


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, in seconds or as a date."""
    text = {name.lower(): value for name, value in (headers or {}).items()}.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - clock.now()).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
