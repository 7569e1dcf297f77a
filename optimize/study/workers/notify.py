"""Words to a person, through apprise (Telegram, Slack, mail ...), when a study ends, stops or keeps failing.

The URLs hold tokens: they are part of no StudySpec, so they come into no database, file, log or message. A
notification that fails is said once, and harms nothing.
"""

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optimize.errors import BadInputError, WalkforgeError, require
from optimize.results.progress import EndedRun
from optimize.study.workers.live import Total

if TYPE_CHECKING:
    from apprise import Apprise

VARIABLE = "WALKFORGE_NOTIFY_URLS"  # URLs, apart by spaces
OCCASIONS = ("finish", "stop", "failure")
FAILURES = 3  # in a row make a repeated failure
LAST_WORD_S = 20.0  # that the end of a study waits for its notification


@dataclass(frozen=True)
class NotifySpec:
    """Where to send words, and on which occasions."""

    urls: list[str] = field(default_factory=list, repr=False)
    on: list[str] = field(default_factory=lambda: list(OCCASIONS))

    def __post_init__(self) -> None:
        allowed = f"a list of {', '.join(OCCASIONS)}"
        require(bool(self.on) and set(self.on) <= set(OCCASIONS), "notify.on", self.on, allowed)


@dataclass
class Notifier:
    """Sends words about one study, each from a thread of its own."""

    spec: NotifySpec
    services: "Apprise | None"
    study: str
    complain: Callable[[str], None]
    total: Total | None = None  # as of the last trial that ended
    in_a_row: int = 0  # trials that failed
    failed: bool = False  # a notification did, and it was said
    threads: list[threading.Thread] = field(default_factory=list)

    def send(self, occasion: str, text: str) -> None:
        """Send words on an occasion that was asked for, without waiting."""
        if self.services is None or occasion not in self.spec.on:
            return
        thread = threading.Thread(target=self._send, args=(text,), name="notify", daemon=True)
        self.threads.append(thread)
        thread.start()

    def hear(self, run: EndedRun, total: Total) -> None:
        """Count trials that fail in a row, and say so once for each row."""
        self.total = total
        if run.state in ("COMPLETE", "PRUNED"):
            self.in_a_row = 0
        elif run.state == "FAIL":
            self.in_a_row += 1
            if self.in_a_row == FAILURES:
                why = f"{run.failure_kind}: {run.failure_message}"
                self.send("failure", f"{FAILURES} trials in a row failed, the last with {why}")

    def close(self) -> None:
        """Wait a little for what is being sent."""
        for thread in self.threads:
            thread.join(LAST_WORD_S)

    def _send(self, text: str) -> None:
        try:
            sent = self.services is not None and self.services.notify(
                title=f"walkforge {self.study}", body=text
            )
            why = "" if sent else "a service did not take it"
        except (
            Exception
        ) as error:  # whatever a service's client raises, without its words: they may hold a token
            why = type(error).__name__
        if why and not self.failed:
            self.failed = True
            self.complain(f"no notification about {self.study} could be sent ({why}); the study goes on")


def connect(spec: NotifySpec) -> "Apprise | None":
    """Return the services that the URLs name, None where there is none; BadInputError for a bad URL."""
    urls = [*spec.urls, *os.environ.get(VARIABLE, "").split()]
    if not urls:
        return None
    try:
        from apprise import Apprise
    except ImportError:
        raise BadInputError(
            "notify.urls needs apprise, which is not installed: pip install 'walkforge[notify]'"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its words may hold a token
    services = Apprise()
    for number, url in enumerate(urls):
        where = f"notify.urls[{number}]" if number < len(spec.urls) else VARIABLE
        with warnings.catch_warnings():  # its services import modules that Python will drop
            warnings.simplefilter("ignore", DeprecationWarning)
            known = services.add(url)
        if not known:
            raise BadInputError(
                f"{where}: apprise knows no service of this form (it begins with {_scheme(url)!r}, the rest "
                "may hold a token and is not shown): write one such as tgram://TOKEN/CHAT or mailto://..."
            )
    return services


def _scheme(url: str) -> str:
    scheme, mark, _ = url.partition("://")
    return f"{scheme}://" if mark and scheme.isalnum() else ""


@contextmanager
def notifying(
    spec: NotifySpec, services: "Apprise | None", study: str, complain: Callable[[str], None]
) -> Iterator[Notifier]:
    """Yield the notifier of a study, and tell how the study ended."""
    notifier = Notifier(spec, services, study, complain)
    try:
        yield notifier
    except BadInputError:  # whoever typed it reads the answer
        raise
    except WalkforgeError as error:
        notifier.send("stop", str(error))
        raise
    except BaseException as error:  # a bug's own words may hold anything
        why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
        notifier.send("stop", f"{why}: the same command goes on")
        raise
    else:
        total = notifier.total
        far = "" if total is None else f" ({total.done}/{total.cap} trials, {total.words})"
        notifier.send("finish", f"the study is at its cap{far}")
    finally:
        notifier.close()
