"""Start processes: without the main module of this one, and without garbage collection while they load."""

import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import ModuleType


@contextmanager
def main_left_out() -> Iterator[None]:
    """Let a process start that does not import the main module of this one.

    A worker needs nothing of it: a script without `if __name__ == "__main__"` would launch the study again,
    and a notebook or the standard input is not a file that it can import.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from the objects that are made here, which stay until the process ends.

    Else a third of the time in which libraries load goes into walking through what is loaded already.
    """
    gc.disable()
    try:
        yield
    finally:
        keep_loaded()


def keep_loaded() -> None:
    """Collect garbage from here on, except the objects that exist by now."""
    gc.freeze()
    gc.enable()


def enter_pool() -> None:
    """Begin the worker process of an executor; its function calls `keep_loaded` when its modules are loaded.

    It exits with its parent, which the worker of an executor would outlive if it is killed.
    """
    gc.disable()
    exit_with_parent()


def exit_with_parent() -> None:
    """Let this process exit once the one that started it has ended, also if that one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "multiprocessing starts this process"
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
