"""Rows as a table to read, or as CSV or JSON for a program: the one place that prints them."""

import csv
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from optimize.atomic import replacing
from optimize.errors import BadInputError

PLAIN_WIDTH = 120  # of a table written to a file or a pipe; narrower tables keep their own width
UNBOUNDED = 1000  # to measure how wide a table would be
FILLS = {"open": "", "close": "; orders filled at the very close that was observed, for comparisons only"}
COST_UNIT = "cost: commission, slippage and financing, in % of what a window starts with, summed over windows"
EXPOSURE = "exposure: mean over bars of the sum of |weights|"
ZERO_COST = "zero-cost Sharpe: of the same actions without any cost"
IN_SAMPLE = "in-sample Sharpe: of the same policy on its own train span"
TURNOVER = "turnover: traded value in units of equity, of random policies the mean of all"
RANDOM = "random_0.02: median of 200 policies with a new random target at 2 % of the bars"
ABOVE_RANDOM = "above random: share of the random policies of a trial's own turnover that score lower"
FIGURES = (
    "return: net, compounded over the test windows; drawdown: the deepest loss from a peak, over session "
    "closes and over bar closes; trades: fills, forced exits among them"
)
TableRow = Mapping[str, Any]
Write = Callable[[Any], str]


@dataclass(frozen=True)
class Column:
    """A column of a table: the key it shows, its heading, and how a value is written."""

    key: str
    title: str
    write: Write = str
    right: bool = True
    detail: bool = False  # left out of a pipe's table that would be wider than PLAIN_WIDTH
    whole: bool = False  # its texts stay on one line, as the numbers of a right column do


def make_console() -> Console:
    """Return a console as wide as the terminal or COLUMNS, else PLAIN_WIDTH wide; :100: stays text."""
    return Console(width=None if _has_width() else PLAIN_WIDTH, highlight=False, emoji=False)


def _has_width() -> bool:
    """Return whether a terminal or COLUMNS states the width."""
    stated = os.environ.get("COLUMNS", "")
    return sys.stdout.isatty() or (stated.isdecimal() and int(stated) > 0)


def say(text: str) -> None:
    """Print a line as it is."""
    make_console().print(escape(text), soft_wrap=True)


def say_aside(text: str) -> None:
    """Print a line beside the output that a program reads."""
    print(text, file=sys.stderr)


def show(
    rows: Sequence[TableRow], columns: Sequence[Column], form: str, title: str = "", file: str | None = None
) -> None:
    """Print rows as `table`, or with every key and all digits as `csv` or `json`; `parquet` writes a file."""
    if form == "parquet":
        write_parquet(rows, [column.key for column in columns], Path(file or ""))
        say(f"{file}: {len(rows)} row{'s' * (len(rows) != 1)}")
    elif form == "json":
        show_json(list(rows))
    elif form == "csv":
        _show_csv(rows, [column.key for column in columns])
    else:
        _show_table(rows, columns, title)


def write_parquet(rows: Sequence[TableRow], keys: Sequence[str], path: Path) -> None:
    """Replace a Parquet file with every key of the rows and all digits; nested values are JSON text."""
    import pyarrow as pa  # loads slowly, and the other formats do without
    import pyarrow.parquet as pq

    fields = list(rows[0]) if rows else list(keys)
    table = pa.table({key: [_cell(row.get(key)) for row in rows] for key in fields})
    try:
        with replacing(path) as partial:
            pq.write_table(table, partial)
    except OSError as error:
        raise BadInputError(
            f"file={str(path)!r} cannot be written ({error.strerror or error}): name a file in a folder that "
            "exists"
        ) from None


def show_json(content: Any) -> None:
    """Print plain values as JSON; numbers that are not finite become null."""
    json.dump(_plain(content), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def short(value: Any) -> str:
    """Write any value in a few characters."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def spell(parameters: Mapping[str, Any]) -> str:
    """Return parameters in short: the last word of each path, numbers in four digits."""
    words = [f"{path.rpartition('.')[2]}={short(value)}" for path, value in sorted(parameters.items())]
    return " ".join(words) or "the defaults"


def duration(seconds: float | None) -> str:
    """Write a time span in its two largest units."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    for size, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // smaller} {smaller_name}"
    return f"{whole} s"


def _show_table(rows: Sequence[TableRow], columns: Sequence[Column], title: str) -> None:
    console = make_console()
    wide = console.options.update(max_width=UNBOUNDED)

    @cache  # a column is measured once, and not in every set of columns that is tried
    def alone(column: Column, folded: bool) -> Measurement:
        return Measurement.get(console, wide, _table(rows, (column,), "", folded=folded))

    def width(shown: Sequence[Column], folded: bool) -> Measurement:
        each = [alone(column, folded) for column in shown]  # with both edges; columns share one between them
        return Measurement(sum(one.minimum - 1 for one in each) + 1, sum(one.maximum - 1 for one in each) + 1)

    if width(columns, folded=False).minimum <= console.width:
        console.print(_table(rows, columns, title, folded=False))
        return
    shown = list(columns)
    if not _has_width():
        shown = _without_details(columns, lambda shown: width(shown, folded=True).maximum <= console.width)
    named = _naming(rows, shown)
    for part in _parts(shown, named, lambda shown: width(shown, folded=True).minimum <= console.width):
        # Where the terminal is too narrow even for two columns it breaks the line; nothing is cut off.
        console.width = max(console.width, width(part, folded=True).minimum)
        console.print(_table(rows, part, title, folded=True))
        title = ""
    if left := [column.title for column in columns if column not in shown]:
        say(f"left out of {PLAIN_WIDTH} columns: {', '.join(left)}; COLUMNS=200 before the command shows all")


def _without_details(columns: Sequence[Column], fits: Callable[[Sequence[Column]], bool]) -> list[Column]:
    """Return the columns without as many details, from the right, as the width asks for."""
    shown = list(columns)
    for column in reversed(columns):
        if fits(shown):
            break
        if column.detail:
            shown.remove(column)
    return shown


def _naming(rows: Sequence[TableRow], columns: Sequence[Column]) -> int:
    """Return the number of first columns by which every row differs from the others, 1 where none do."""
    for number in range(1, len(columns)):
        texts = {tuple(column.write(row.get(column.key)) for column in columns[:number]) for row in rows}
        if len(texts) == len(rows):
            return number
    return 1


def _parts(
    columns: Sequence[Column], named: int, fits: Callable[[Sequence[Column]], bool]
) -> list[tuple[Column, ...]]:
    """Return the columns in as few tables as fit, one below the other; each begins with the first `named`.

    It begins with the first column alone where the terminal is too narrow for one column more.
    """
    first = tuple(columns[:named] if fits(columns[: named + 1]) else columns[:1])
    parts: list[tuple[Column, ...]] = [first]
    for column in columns[len(first) :]:
        longer = (*parts[-1], column)
        if len(parts[-1]) == len(first) or fits(longer):
            parts[-1] = longer
        else:
            parts.append((*first, column))
    return parts


def _table(rows: Sequence[TableRow], columns: Sequence[Column], title: str, *, folded: bool) -> Table:
    """Return the table; folded, a heading of several words is no wider than it must be."""
    table = Table(box=box.SIMPLE_HEAD, title=escape(title) or None, title_justify="left", title_style="bold")
    for column in columns:
        side: Literal["left", "right"] = "right" if column.right else "left"
        # rich takes the longest word for the least width, and would cut a number such as "-2.96 / +1.2" short
        longest = max((len(column.write(row.get(column.key))) for row in rows), default=0)
        room = max(longest, *map(len, column.title.split())) if folded else len(column.title)
        heading = textwrap.fill(column.title, room) if column.right or column.whole else column.title
        solid = column.right or column.whole
        least = max(longest, room) if solid else None
        table.add_column(escape(heading), justify=side, no_wrap=solid, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*(escape(column.write(row.get(column.key))) for column in columns))
    return table


def _show_csv(rows: Sequence[TableRow], keys: Sequence[str]) -> None:
    fields = list(rows[0]) if rows else list(keys)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_cell(row.get(key)) for key in fields] for row in rows)


def _cell(value: Any) -> Any:
    """Return a value for a CSV cell: empty for None, JSON for nested values."""
    return json.dumps(_plain(value), sort_keys=True) if isinstance(value, (Mapping, list, tuple)) else value


def _plain(value: Any) -> Any:
    """Return a value that JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value
