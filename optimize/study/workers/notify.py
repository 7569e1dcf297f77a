"""Send notifications through apprise (Telegram, Slack, mail ...) when a study ends, stops or keeps failing.

The URLs hold tokens: a study is stored without them, and no worker, log or message receives them. A
notification that fails is reported once and has no other effect.
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

from optimize.errors import BadInputError, WalkforgeError, install_hint
from optimize.results.launches import EndedRun
from optimize.results.states import COUNTED, RunState
from optimize.study.spec import NotifySpec
from optimize.study.workers.gpus import NOTIFY_VARIABLE
from optimize.study.workers.live import Total

if TYPE_CHECKING:
    from apprise import Apprise

VARIABLE = NOTIFY_VARIABLE  # URLs separated by spaces
CONSECUTIVE_FAILURES = 3  # consecutive failed trials before a notification
HOLD_S = 30.0  # delay of a notification of failures, which is dropped if the study stops itself meanwhile
CLOSE_TIMEOUT_S = 20.0  # time-out of the notifications at the end of a study


@dataclass(frozen=True)
class Service:
    """The service of one URL, named by the scheme alone: the rest may hold a token."""

    scheme: str
    apprise: "Apprise"


@dataclass
class Notifier:
    """Sends the notifications of one study, each to each service in a thread of its own."""

    spec: NotifySpec
    services: Sequence[Service]
    study: str
    report: Callable[[str], None]
    total: Total | None = None  # as of the last trial that ended
    in_a_row: int = 0  # consecutive failed trials
    failed: set[int] = field(default_factory=set)  # services whose failure was reported
    stopped: bool = False
    closing: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def send(self, event: str, text: str, kind: str) -> None:
        """Send a notification without waiting, if its event is configured."""
        if event in self.spec.events:
            for number, service in enumerate(self.services):
                self._start(self._send, number, service, text, kind)

    def run_ended(self, run: EndedRun, total: Total) -> None:
        """Count consecutive failed trials, and notify once for each series."""
        self.total = total
        if run.state in COUNTED:
            self.in_a_row = 0
        elif run.state == RunState.FAIL:
            self.in_a_row += 1
            if self.in_a_row == CONSECUTIVE_FAILURES and self.services:
                why = f"{run.failure_kind}: {run.failure_message}"
                self._start(self._warn, f"{CONSECUTIVE_FAILURES} trials in a row failed, the last with {why}")

    def stop(self, text: str, kind: str) -> None:
        """Send the reason why the study stopped."""
        self.stopped = True
        self.send("stop", text, kind)

    def close(self) -> None:
        """Wait for the notifications that are being sent, at most CLOSE_TIMEOUT_S."""
        self.closing.set()
        until = time.monotonic() + CLOSE_TIMEOUT_S
        while self.threads:
            self.threads.pop(0).join(max(0.0, until - time.monotonic()))

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, name="notify", daemon=True)
        self.threads.append(thread)
        thread.start()

    def _warn(self, text: str) -> None:
        """Notify of failures after HOLD_S, unless the stop of the study is notified meanwhile."""
        self.closing.wait(HOLD_S)
        if not (self.stopped and "stop" in self.spec.events):
            self.send("failure", text, "warning")

    def _send(self, number: int, service: Service, text: str, kind: str) -> None:
        try:
            title = f"walkforge {self.study}"
            sent = service.apprise.notify(title=title, body=text, notify_type=kind)
            why = "" if sent else "the service did not take it"
        except Exception as error:  # from any client; its message may hold a token and is not shown
            why = type(error).__name__
        if why and number not in self.failed:
            self.failed.add(number)
            self.report(
                f"a notification about {self.study} could not be sent to {service.scheme}... ({why}); "
                "the study goes on"
            )


def connect_services(spec: NotifySpec) -> list[Service]:
    """Return the services of the URLs; raise BadInputError for a bad URL."""
    urls = [*spec.urls, *os.environ.get(VARIABLE, "").split()]
    if not urls:
        return []
    try:
        from apprise import Apprise
    except ImportError:
        raise BadInputError(
            f"notify.urls needs apprise, which is not installed: {install_hint('notify')}"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its messages may hold a token
    services: list[Service] = []
    for number, url in enumerate(urls):
        where = f"notify.urls[{number}]" if number < len(spec.urls) else VARIABLE
        with warnings.catch_warnings():  # its services import deprecated modules
            warnings.simplefilter("ignore", DeprecationWarning)
            service = Service(_scheme(url), Apprise())
            known = service.apprise.add(url)
        if not known:
            raise BadInputError(
                f"{where}: apprise has no service of this form (it begins with {_scheme(url)!r}, the rest "
                "may hold a token and is not shown): write one such as tgram://TOKEN/CHAT or mailto://..."
            )
        services.append(service)
    return services


def _scheme(url: str) -> str:
    scheme, mark, _ = url.partition("://")
    return f"{scheme}://" if mark and scheme.isalnum() else ""


@contextmanager
def notifying(
    spec: NotifySpec, services: Sequence[Service], study: str, report: Callable[[str], None]
) -> Iterator[Notifier]:
    """Yield the notifier of a study, and send how the study ended."""
    notifier = Notifier(spec, services, study, report)
    try:
        yield notifier
    except BadInputError:  # shown on the terminal where the command was typed
        raise
    except WalkforgeError as error:
        notifier.stop(str(error), "failure")
        raise
    except BaseException as error:  # the message of a bug may hold secrets
        interrupted = isinstance(error, KeyboardInterrupt)
        why = "it was interrupted" if interrupted else type(error).__name__
        notifier.stop(f"{why}: the same command resumes it", "warning" if interrupted else "failure")
        raise
    else:
        total = notifier.total
        far = "" if total is None else f" ({total.done}/{total.cap} trials, {total.words})"
        notifier.send("finish", f"the study is at its cap{far}", "success")
    finally:
        notifier.close()
