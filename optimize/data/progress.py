"""What a download shows: a bar on a terminal, a plain line now and then otherwise."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

EVERY_S = 10.0  # between two plain lines


class Meter:
    """How far one symbol after another has come."""

    def __init__(self, name: str, say: Callable[[str], None], bar: Progress | None) -> None:
        self._name = name
        self.say = say  # rich prints above its bar what is printed meanwhile
        self._bar = bar
        self._task = bar.add_task(name, total=None, bars="", note="") if bar else None
        self._said_at = time.monotonic()

    def begin(self, name: str) -> None:
        """Go over to the next symbol."""
        self._name = name
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=1.0, description=name, bars="", note="")

    def advance(self, done: float, rows: int) -> None:
        """Show the share of the span that is done, and the bars it gave."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, bars=f"{rows:,} bars", note="")
        elif time.monotonic() - self._said_at >= EVERY_S:
            self._said_at = time.monotonic()
            self.say(f"{self._name}: {done:.0%}, {rows:,} bars")

    def wait(self, reason: str) -> None:
        """Show why nothing moves for a while: in the bar, until it moves again, or as a line."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=reason, refresh=True)
        else:
            self.say(reason)


@contextmanager
def meter(name: str, say: Callable[[str], None]) -> Iterator[Meter]:
    """Yield the meter of a download; its bar is drawn beside the output, not in it."""
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
