"""The live view of a study on a terminal: progress bar and table of workers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import ConsoleDimensions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from optimize.report.format import format_score, number

FRAME_LINES = 5  # bar, heading, line of hidden workers, and room for the prompt
LONGEST_SHOWN_NAME = 24
ONE_LINE_WIDTH = 76  # columns at which the bar and all its numbers fit into one line


@dataclass(frozen=True)
class WorkerRow:
    """One worker and its trial."""

    worker: int
    device: str
    trial: int | None  # None between two trials
    window: str  # running window / number of windows
    score: float | None  # of the finished windows
    seconds: float | None
    resident_mb: float


@dataclass(frozen=True)
class Total:
    """Progress of a study."""

    name: str
    done: int
    cap: int
    best: float | None
    failed: int
    left_s: float | None  # None until a trial has finished

    @property
    def words(self) -> str:
        """Return the best score and the number of failures as text."""
        best = "no score yet" if self.best is None else f"best {format_score(self.best)}"
        return f"{best}, {self.failed} failed" if self.failed else best

    @property
    def left(self) -> str:
        """Return the time left, as hours, minutes and seconds."""
        return "" if self.left_s is None or self.done >= self.cap else f"{clock_time(self.left_s)} left"


def clock_time(seconds: float) -> str:
    """Write seconds as h:mm:ss."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def view(total: Total, rows: Sequence[WorkerRow], size: ConsoleDimensions) -> RenderableType:
    """Return the bar of a study above the table of its workers, cut to the height of the terminal."""
    parts = _bar(total, size.width)
    if rows:
        room = max(1, size.height - FRAME_LINES)
        parts.append(_workers(rows[:room]))
        if len(rows) > room:
            parts.append(Text(f"and {len(rows) - room} workers more", style="dim"))
    return Group(*parts)


def _bar(total: Total, width: int) -> list[RenderableType]:
    """Return the bar with its numbers, on a second line if the terminal is too narrow."""
    numbers = [f"{total.done}/{total.cap}", total.words, total.left]
    beside = numbers if width >= ONE_LINE_WIDTH else []
    grid = Table.grid(
        Column(no_wrap=True, overflow="ellipsis", max_width=LONGEST_SHOWN_NAME),
        Column(ratio=1, min_width=6),
        *(Column(no_wrap=True) for _ in beside),
        padding=(0, 1),
        expand=True,
    )
    bar = ProgressBar(total=max(1, total.cap), completed=min(total.done, total.cap))
    grid.add_row(Text(total.name, style="bold"), bar, *beside)
    return [grid] if beside else [grid, Text("  ".join(filter(None, numbers)))]


def _workers(rows: Sequence[WorkerRow]) -> Table:
    titles = ("worker", "device", "trial", "window", "score so far", "seconds", "MB")
    columns = (Column(title, justify="right", no_wrap=True) for title in titles)
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for row in rows:
        table.add_row(
            str(row.worker),
            row.device,
            "-" if row.trial is None else str(row.trial),
            row.window or "-",
            format_score(row.score),
            number(0)(row.seconds),
            number(0)(row.resident_mb),
        )
    return table
