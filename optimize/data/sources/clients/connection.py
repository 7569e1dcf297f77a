"""Requests of a client: retries for transient failures, and clear errors for all others."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from optimize.data.sources.clients.access import masked_line
from optimize.data.sources.clients.protocol import WaitNotice
from optimize.data.sources.clients.retry import BusyError, is_transient, request_with_retries, retry_after
from optimize.errors import DownloadError, WalkforgeError

Parsed = TypeVar("Parsed")
Explain = Callable[[Exception, int | None], Exception | None]

TIMEOUT_S = 30  # seconds without a byte from the source
ACCESS_REFUSED = (401, 403)
PARSE_ERRORS = (ValueError, LookupError, TypeError, AttributeError)  # raised for an answer of unexpected form
UNREADABLE_TRIES = 3  # a maintenance page is temporary, another format is not
NO_NETWORK_TRIES = 2
NO_NETWORK = re.compile(
    r"resolv|getaddrinfo|name resolution|name or service not known|nodename nor servname|"
    r"network is (unreachable|down)|no route to host",
    re.IGNORECASE,
)
HOST = re.compile(r"host='([^']+)'|resolve (?:host|proxy): ([^\s,;]+[^\s,;.])")


class Connection:
    """Requests of one client and their last answer, which the client libraries' errors leave out.

    `explain` translates errors specific to one source, given the HTTP status; it returns None for unknown
    ones.
    """

    def __init__(self, source: str, notice: WaitNotice, explain: Explain) -> None:
        self._source = source
        self._notice = notice
        self._explain = explain
        self._answer: Any = None

    def remember(self, answer: Any, *_: Any, **__: Any) -> None:
        """Store an answer (a response hook of requests' sessions)."""
        self._answer = answer

    @property
    def headers(self) -> Any:
        """Return the headers of the last answer; None without one."""
        return None if self._answer is None else self._answer.headers

    @property
    def json(self) -> Any:
        """Return the last answer's JSON; None if it is not JSON."""
        try:
            return self._answer.json()
        except PARSE_ERRORS:
            return None

    def ask(self, request: Callable[[], Parsed]) -> Parsed:
        """Return the result of a request, retrying transient failures."""
        return request_with_retries(self._source, partial(self._once, request), self._notice)

    def said(self) -> str:
        """Return the last answer as one line with all keys masked."""
        form = str(self.headers.get("content-type") or "").partition(";")[0]
        named = f", {form}" if form and "json" not in form else ""
        return masked_line(
            f"HTTP {self._answer.status_code}{named}: {self._answer.text.strip() or 'nothing'}"
        )

    def unreadable(self, error: Exception) -> BusyError:
        """Return the error for an answer of unexpected form."""
        lacking = f" (no {error} in it)" if isinstance(error, KeyError) else ""
        said = f"an answer that walkforge cannot read{lacking}, {self.said()}"
        return BusyError(said, tries=UNREADABLE_TRIES)

    def _once(self, request: Callable[[], Parsed]) -> Parsed:
        """Make one request; translate known failures into our errors and raise unknown ones unchanged."""
        self._answer = None
        try:
            return request()
        except (WalkforgeError, BusyError):
            raise
        except Exception as error:
            meaning = self._meaning(error)
            if meaning is None or meaning is error:
                raise
            raise meaning from None

    def _meaning(self, error: Exception) -> Exception | None:
        """Translate an error that the source can cause; None for all others."""
        status = None if self._answer is None else int(self._answer.status_code)
        if is_transient(status):
            return BusyError(self.said(), retry_after(self.headers))
        if status is not None and status < 400 and isinstance(error, PARSE_ERRORS):
            return self.unreadable(error)
        if status is None and any(isinstance(each, OSError) for each in _causes(error)):
            return _unreached(error)
        meaning = self._explain(error, status)
        if meaning is not None or status is None:
            return meaning
        if status >= 400:
            return DownloadError(f"{self._source} cannot serve this: {self.said()}")
        return (
            BusyError(error) if isinstance(error, OSError) else None
        )  # connection broken off during the answer


def _unreached(error: Exception) -> BusyError:
    """Return the error for a request without an answer, with a hint if the network is down."""
    texts = [str(each) for each in _causes(error)]
    reason = next((text for text in reversed(texts) if NO_NETWORK.search(text)), None)
    if reason is None:
        cause = next((text for text in texts[1:] if text not in texts[0]), "")
        return BusyError(f"{texts[0]}: {cause}" if cause else texts[0])
    found = next((match for text in texts if (match := HOST.search(text))), None)
    host = f"{found[1] or found[2]} cannot be found" if found else "it cannot be reached"
    said = f"no network, or no such host: {host} ({masked_line(reason.partition('. See ')[0])})"
    return BusyError(said, tries=NO_NETWORK_TRIES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the root cause last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
