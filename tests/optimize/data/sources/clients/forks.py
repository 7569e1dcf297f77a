"""Processes that a test can kill, forked from one that has imported the modules of a download."""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tests.conftest import REPOSITORY

IMPORTED = ("ccxt", "yfinance", "alpaca.data.historical", "coinbase.rest", "optimize.data.download.run")


class Forks:
    """The process that forks, one child at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def start(self, target: Callable[..., None], *arguments: str, environment: Mapping[str, str]) -> int:
        """Call target in a new process and return its id."""
        name = f"{target.__module__}:{target.__name__}"
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, arguments, dict(environment)]) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def wait(self) -> int:
        """Return how the process that was started last ended: its exit code, or minus the signal."""
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def forking(folder: Path) -> Iterator[Forks]:
    """Run the process while the block lasts, the caches of the client libraries in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder)}
    arguments = [sys.executable, "-m", __name__]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments, stdin=pipe, stdout=pipe, text=True, cwd=folder, env=environment
    ) as process:
        try:
            yield Forks(process)
        finally:
            process.kill()


def main() -> None:
    """Fork for each line that comes in; print the process id and its exit code."""
    for module in IMPORTED:
        import_module(module)
    for line in sys.stdin:
        name, arguments, environment = json.loads(line)
        module, function = name.split(":")
        target = getattr(import_module(module), function)
        child = os.fork()
        if not child:
            _call(target, arguments, environment)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _call(target: Callable[..., None], arguments: list[str], environment: dict[str, str]) -> None:
    """Call a function and end the process."""
    signal.alarm(120)  # no test waits longer
    os.environ.update(environment)
    try:
        with open(os.devnull, "w") as nowhere:
            sys.stdout = nowhere
            target(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
