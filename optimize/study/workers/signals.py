"""The signals that ask a study to stop or to stand still, and output that nobody reads any more."""

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
    """End what runs as Ctrl-C does, so that it clears up after itself."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def signals_answered(answers: Answer | Mapping[signal.Signals, Answer]) -> Iterator[None]:
    """Have signals answered by functions, where this is the main thread: one for Ctrl-C, SIGTERM and SIGHUP.

    One that is ignored stays so, as SIGHUP is under nohup.
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
    """Let a process start with the signals of a stop blocked, until it can answer them.

    A forkserver keeps them blocked for good: it is in our group, and a SIGTERM to the group would end it.
    """
    resource_tracker.ensure_running()  # its own start would unblock them
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class LastingStream:
    """A text stream that goes on, into nothing, when its reader or its terminal is gone."""

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
        """Write what is buffered, or drop it."""
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
    """Let a long command run on where its output is closed, such as a terminal or a pipe to a pager."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = LastingStream(before[0]), LastingStream(before[1])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
