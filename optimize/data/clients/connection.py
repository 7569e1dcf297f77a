"""How a client talks to its source: it asks again where that helps, and says what came where it does not."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from optimize.data.clients.access import one_line
from optimize.data.clients.protocol import Notice
from optimize.data.clients.retry import BusyError, ask, may_pass, retry_after
from optimize.errors import DownloadError, WalkforgeError

T = TypeVar("T")
Explain = Callable[[Exception, int | None], Exception | None]

TIMEOUT_S = 30  # without a byte from the source
REFUSED = (401, 403)
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)  # of an answer in another shape than bars
UNREADABLE_TRIES = 3  # a page that says "back soon" goes away; another format does not
NO_NETWORK_TRIES = 2
NO_NETWORK = re.compile(
    r"resolv|getaddrinfo|name resolution|name or service not known|nodename nor servname|"
    r"network is (unreachable|down)|no route to host",
    re.IGNORECASE,
)
HOST = re.compile(r"host='([^']+)'|resolve (?:host|proxy): ([^\s,;]+[^\s,;.])")


class Connection:
    """One client's requests, and the last answer to them, which the client libraries' errors leave out.

    What an error and its HTTP status mean to one source alone is for its `explain` to say, None for nothing.
    """

    def __init__(self, source: str, notice: Notice, explain: Explain) -> None:
        self._source = source
        self._notice = notice
        self._explain = explain
        self._answer: Any = None

    def remember(self, answer: Any, *_: Any, **__: Any) -> None:
        """Keep an answer; a hook of requests' sessions."""
        self._answer = answer

    @property
    def headers(self) -> Any:
        """Return the headers of the last answer, None where there is none."""
        return None if self._answer is None else self._answer.headers

    @property
    def json(self) -> Any:
        """Return the last answer's JSON, None where it is none."""
        try:
            return self._answer.json()
        except UNREADABLE:
            return None

    def ask(self, request: Callable[[], T]) -> T:
        """Return what a request returns, which makes bars or symbols of the answer; ask again if need be."""
        return ask(self._source, partial(self._once, request), self._notice)

    def said(self) -> str:
        """Return the last answer as one line without any key."""
        form = str(self.headers.get("content-type") or "").partition(";")[0]
        named = f", {form}" if form and "json" not in form else ""
        return one_line(f"HTTP {self._answer.status_code}{named}: {self._answer.text.strip() or 'nothing'}")

    def unreadable(self, error: Exception) -> BusyError:
        """Return that the last answer holds something else than what was asked for."""
        lacking = f" (no {error} in it)" if isinstance(error, KeyError) else ""
        said = f"an answer that walkforge cannot read{lacking}, {self.said()}"
        return BusyError(said, tries=UNREADABLE_TRIES)

    def _once(self, request: Callable[[], T]) -> T:
        """Make one request and say in our own errors how it failed; what is unknown is raised as it is."""
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
        """Return what an error means, None where it is nothing that a source can cause."""
        status = None if self._answer is None else int(self._answer.status_code)
        if may_pass(status):
            return BusyError(self.said(), retry_after(self.headers))
        if status is not None and status < 400 and isinstance(error, UNREADABLE):
            return self.unreadable(error)
        if status is None and any(isinstance(each, OSError) for each in _causes(error)):
            return _unreached(error)
        meaning = self._explain(error, status)
        if meaning is not None or status is None:
            return meaning
        if status >= 400:
            return DownloadError(f"{self._source} cannot serve this: {self.said()}")
        return BusyError(error) if isinstance(error, OSError) else None  # broken off in mid-answer


def _unreached(error: Exception) -> BusyError:
    """Return that no answer came, and whether that is for lack of a network."""
    texts = [str(each) for each in _causes(error)]
    reason = next((text for text in reversed(texts) if NO_NETWORK.search(text)), None)
    if reason is None:
        cause = next((text for text in texts[1:] if text not in texts[0]), "")
        return BusyError(f"{texts[0]}: {cause}" if cause else texts[0])
    found = next((match for text in texts if (match := HOST.search(text))), None)
    host = f"{found[1] or found[2]} cannot be found" if found else "it cannot be reached"
    said = f"no network, or no such host: {host} ({one_line(reason.partition('. See ')[0])})"
    return BusyError(said, tries=NO_NETWORK_TRIES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the root last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
