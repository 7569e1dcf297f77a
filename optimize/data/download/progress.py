"""Progress of a download: a progress bar on a terminal, else a plain line every few seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

EVERY_S = 10.0  # seconds between two plain lines


class Meter:
    """Progress of one symbol after another."""

    def __init__(self, name: str, say: Callable[[str], None], bar: Progress | None) -> None:
        self._name = name
        self.say = say  # rich moves printed lines above its progress bar
        self._bar = bar
        self._task = bar.add_task(name, total=None, bars="", note="") if bar else None
        self._said_at = time.monotonic()

    def begin(self, name: str) -> None:
        """Start the next symbol."""
        self._name = name
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=1.0, description=name, bars="", note="")

    def advance(self, done: float, rows: int) -> None:
        """Show the completed share of the span and the number of bars."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, bars=f"{rows:,} bars", note="")
        elif time.monotonic() - self._said_at >= EVERY_S:
            self._said_at = time.monotonic()
            self.say(f"{self._name}: {done:.0%}, {rows:,} bars")

    def wait(self, reason: str) -> None:
        """Show the reason for a wait: in the progress bar until it moves on, or as a line."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=reason, refresh=True)
        else:
            self.say(reason)


@contextmanager
def meter(name: str, say: Callable[[str], None]) -> Iterator[Meter]:
    """Yield the meter of a download; the progress bar goes to stderr, not into the output."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Meter(name, say, None)
        return
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[bars]}"),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[note]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        yield Meter(name, say, bar)
