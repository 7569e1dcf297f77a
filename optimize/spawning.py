"""Start processes that do not import the main module of this one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
