"""Words to a person, through apprise (Telegram, Slack, mail ...), when a study ends, stops or keeps failing.

The URLs hold tokens: they are part of no StudySpec, so they come into no database, file, log or message. A
notification that fails is said once, and harms nothing.
"""

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optimize.errors import BadInputError, WalkforgeError, install_hint, require
from optimize.results.progress import EndedRun
from optimize.study.devices import NOTIFY_VARIABLE
from optimize.study.workers.live import Total

if TYPE_CHECKING:
    from apprise import Apprise

VARIABLE = NOTIFY_VARIABLE  # URLs, apart by spaces
OCCASIONS = ("finish", "stop", "failure")
FAILURES = 3  # in a row make a repeated failure
HOLD_S = 30.0  # a word of failures is kept back, as a study that fails may stop itself by then
LAST_WORD_S = 20.0  # that the end of a study waits for its notification


@dataclass(frozen=True)
class NotifySpec:
    """Where to send words, and on which occasions."""

    urls: list[str] = field(default_factory=list, repr=False)
    on: list[str] = field(default_factory=lambda: list(OCCASIONS))

    def __post_init__(self) -> None:
        allowed = f"a list of {', '.join(OCCASIONS)}"
        require(bool(self.on) and set(self.on) <= set(OCCASIONS), "notify.on", self.on, allowed)


@dataclass(frozen=True)
class Service:
    """One URL's service, which is called by what its URL begins with: the rest may hold a token."""

    scheme: str
    apprise: "Apprise"


@dataclass
class Notifier:
    """Sends words about one study, each to each service from a thread of its own."""

    spec: NotifySpec
    services: Sequence[Service]
    study: str
    complain: Callable[[str], None]
    total: Total | None = None  # as of the last trial that ended
    in_a_row: int = 0  # trials that failed
    failed: set[int] = field(default_factory=set)  # services that did, of which it was said
    stopped: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def send(self, occasion: str, text: str, kind: str) -> None:
        """Send words on an occasion that was asked for, without waiting."""
        if occasion in self.spec.on:
            for number, service in enumerate(self.services):
                self._start(self._send, number, service, text, kind)

    def hear(self, run: EndedRun, total: Total) -> None:
        """Count trials that fail in a row, and say so once for each row."""
        self.total = total
        if run.state in ("COMPLETE", "PRUNED"):
            self.in_a_row = 0
        elif run.state == "FAIL":
            self.in_a_row += 1
            if self.in_a_row == FAILURES and self.services:
                why = f"{run.failure_kind}: {run.failure_message}"
                self._start(self._warn, f"{FAILURES} trials in a row failed, the last with {why}")

    def stop(self, text: str, kind: str) -> None:
        """Tell that the study stopped, and why."""
        self.stopped = True
        self.send("stop", text, kind)

    def close(self) -> None:
        """Wait a little for what is being sent."""
        self.over.set()
        until = time.monotonic() + LAST_WORD_S
        while self.threads:
            self.threads.pop(0).join(max(0.0, until - time.monotonic()))

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, name="notify", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _warn(self, text: str) -> None:
        """Tell of failures, unless the study stops itself meanwhile: then that is told, and alone."""
        self.over.wait(HOLD_S)
        if not (self.stopped and "stop" in self.spec.on):
            self.send("failure", text, "warning")

    def _send(self, number: int, service: Service, text: str, kind: str) -> None:
        try:
            title = f"walkforge {self.study}"
            sent = service.apprise.notify(title=title, body=text, notify_type=kind)
            why = "" if sent else "the service did not take it"
        except Exception as error:  # of any service's client, without its words: they may hold a token
            why = type(error).__name__
        if why and number not in self.failed:
            self.failed.add(number)
            self.complain(
                f"a notification about {self.study} could not be sent to {service.scheme}... ({why}); "
                "the study goes on"
            )


def connect(spec: NotifySpec) -> list[Service]:
    """Return the services that the URLs name; BadInputError for a bad URL."""
    urls = [*spec.urls, *os.environ.get(VARIABLE, "").split()]
    if not urls:
        return []
    try:
        from apprise import Apprise
    except ImportError:
        raise BadInputError(
            f"notify.urls needs apprise, which is not installed: {install_hint('notify')}"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its words may hold a token
    services: list[Service] = []
    for number, url in enumerate(urls):
        where = f"notify.urls[{number}]" if number < len(spec.urls) else VARIABLE
        with warnings.catch_warnings():  # its services import modules that Python will drop
            warnings.simplefilter("ignore", DeprecationWarning)
            service = Service(_scheme(url), Apprise())
            known = service.apprise.add(url)
        if not known:
            raise BadInputError(
                f"{where}: apprise knows no service of this form (it begins with {_scheme(url)!r}, the rest "
                "may hold a token and is not shown): write one such as tgram://TOKEN/CHAT or mailto://..."
            )
        services.append(service)
    return services


def _scheme(url: str) -> str:
    scheme, mark, _ = url.partition("://")
    return f"{scheme}://" if mark and scheme.isalnum() else ""


@contextmanager
def notifying(
    spec: NotifySpec, services: Sequence[Service], study: str, complain: Callable[[str], None]
) -> Iterator[Notifier]:
    """Yield the notifier of a study, and tell how the study ended."""
    notifier = Notifier(spec, services, study, complain)
    try:
        yield notifier
    except BadInputError:  # whoever typed it reads the answer
        raise
    except WalkforgeError as error:
        notifier.stop(str(error), "failure")
        raise
    except BaseException as error:  # a bug's own words may hold anything
        interrupted = isinstance(error, KeyboardInterrupt)
        why = "it was interrupted" if interrupted else type(error).__name__
        notifier.stop(f"{why}: the same command goes on", "warning" if interrupted else "failure")
        raise
    else:
        total = notifier.total
        far = "" if total is None else f" ({total.done}/{total.cap} trials, {total.words})"
        notifier.send("finish", f"the study is at its cap{far}", "success")
    finally:
        notifier.close()
