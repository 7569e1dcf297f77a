"""Signals that stop or suspend a study, and output to a terminal or pipe that is gone."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Answer = Callable[[int, FrameType | None], None]


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, so that the running code cleans up."""
    raise KeyboardInterrupt


class StopRequests:
    """Requests to stop: the first finishes the running windows, the second stops at once."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self.count = 0
        self._finish = finish

    def answer(self, number: int, frame: FrameType | None) -> None:
        """Call `finish` at the first Ctrl-C, SIGTERM or SIGHUP; raise KeyboardInterrupt at the second.

        A closing terminal may send SIGHUP more than once, which counts as one.
        """
        if number == signal.SIGHUP and self.count:
            return
        self.count += 1
        if self.count == 1:
            self._finish()
            words = "the running windows are finished first; Ctrl-C again stops at once"
            print(f"\nstopping: {words}", file=sys.stderr)
        elif self.count == 2:  # a third signal must not interrupt the cleanup
            raise KeyboardInterrupt


@contextlib.contextmanager
def signals_answered(answers: Answer | Mapping[signal.Signals, Answer]) -> Iterator[None]:
    """Install signal handlers in the main thread: one function for Ctrl-C, SIGTERM and SIGHUP, or one each.

    An ignored signal stays ignored, such as SIGHUP under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = answers if isinstance(answers, Mapping) else dict.fromkeys(STOP_SIGNALS, answers)
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, wanted[number])
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Start processes in this context with the stop signals blocked, until they install their handlers.

    A forkserver keeps them blocked: it is in this process group, and a SIGTERM to the group would end it.
    """
    resource_tracker.ensure_running()  # its start would unblock them
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class LastingStream:
    """A text stream that drops its output once its reader or its terminal is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        try:
            return int(self._stream.write(text))
        except (OSError, ValueError):
            self._lead_nowhere()
            return len(text)

    def flush(self) -> None:
        """Write the buffered text, or drop it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Keep a long command running after its output was closed, such as a terminal or a pipe to a pager."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = LastingStream(before[0]), LastingStream(before[1])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
