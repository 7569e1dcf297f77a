"""Refresh the figures of a running study on the dashboard, in a process of its own beside the supervisor."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkProcess, SpawnContext, SpawnProcess

from optuna.exceptions import OptunaError

from optimize.database import SQLAlchemyError
from optimize.errors import WalkforgeError, message_of
from optimize.extensions import load_extensions
from optimize.spawning import exit_with_parent, main_left_out
from optimize.study.context import StudyContext, open_study
from optimize.study.dashboard.attach_missing import attach_figures, has_newer_trials, not_drawn
from optimize.study.spec import StudySpec
from optimize.study.workers.gpus import worker_environment
from optimize.study.workers.signals import STOP_SIGNALS, signals_held

INTERVAL_S = 120.0  # least time between the end of a refresh and the start of the next one
LARGEST_SHARE = 0.02  # of the launch's time that refreshes may take
NICENESS = 5  # the workers come first; a much lower priority would make them wait for its database writes


@dataclass
class FigureRefresh:
    """Refreshes of one study's figures: one at a time, at an interval, and only after new trials.

    A failure is reported in one line, once where it repeats; it never ends the launch.
    """

    context: StudyContext
    echo: Callable[[str], None]
    interval_s: float = INTERVAL_S
    starter: SpawnContext | ForkContext = field(default_factory=lambda: multiprocessing.get_context("spawn"))
    process: SpawnProcess | ForkProcess | None = None
    reported: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lines, self._sender = multiprocessing.Pipe(duplex=False)
        self._began = time.monotonic()
        self._due = self._began + self.interval_s

    def poll(self) -> None:
        """Start a refresh that is due, and report the failure of one that ended."""
        if self.process is not None:
            if self.process.exitcode is not None:
                self._finish(self.process.exitcode)
        elif time.monotonic() >= self._due:
            self._begin()

    def close(self) -> None:
        """End a running refresh, before the launch draws the last figures itself."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None
        self._lines.close()
        self._sender.close()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._due = self._began + self.interval_s
        try:
            if not has_newer_trials(self.context):
                return
            child = self.starter.Process(
                target=_refresh, args=(self.context.spec, self._sender), name="figures", daemon=True
            )
            with worker_environment(None, 1), signals_held(), main_left_out():
                child.start()
            self.process = child
        except (OSError, EOFError, OptunaError, SQLAlchemyError, WalkforgeError) as error:
            self._report(not_drawn(self.context.spec.name, message_of(error)))

    def _finish(self, code: int) -> None:
        """Report why a refresh failed, and set the time of the next one by its duration."""
        took_s = time.monotonic() - self._began
        self._due = time.monotonic() + max(self.interval_s, took_s / LARGEST_SHARE)
        self.process = None
        while self._lines.poll():
            self._report(str(self._lines.recv()))
        if code:
            self._report(not_drawn(self.context.spec.name, f"exit code {code}"))

    def _report(self, line: str) -> None:
        if line not in self.reported:
            self.reported.add(line)
            self.echo(line)


def _refresh(spec: StudySpec, sender: "Connection[str, str]") -> None:
    """Attach the figures of a study once; the line on a failure is sent to the supervisor."""
    for number in STOP_SIGNALS:  # the supervisor answers them, and ends this process
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    exit_with_parent()
    os.nice(NICENESS)
    try:
        load_extensions(spec.extensions)
        context = open_study(spec)
        attach_figures(context, sender.send)
        context.close()
    except Exception as error:  # reported in one line by the supervisor, as trials do not depend on pictures
        sender.send(not_drawn(spec.name, f"{type(error).__name__}: {message_of(error)}"))
