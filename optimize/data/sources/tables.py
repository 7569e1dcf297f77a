"""A table of columns from the text of a file."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.containers import Content
from optimize.data.sources.headers import find_header
from optimize.data.sources.text import (
    LINE_END,
    Line,
    Lines,
    find_lines,
    is_number,
    line_number,
    split,
    tail_lines,
    to_utf8,
)
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

RAGGED = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
MAX_FOOTER = 5


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file as they came, and what was taken for granted to get them."""

    path: Path
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    symbol: str | None = None  # the column that tells symbols apart, where the form of the file names one
    text: "Body | None" = None  # of a text file: its columns can be read again as they are written


@dataclass(frozen=True, slots=True)
class Body:
    """The rows of a text file, without what is above and below them."""

    path: Path
    data: bytes
    start: int  # offset of the first row
    line: int  # the number of the first row's line
    separator: str
    names: tuple[str, ...]

    def read(self, **settings: Any) -> pd.DataFrame:
        """Parse the rows."""
        separator = r"\s+" if self.separator == " " else self.separator
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", pd.errors.DtypeWarning
                )  # numbers.py reads mixed columns again
                stream = BytesIO(self.data)
                stream.seek(self.start)
                frame: pd.DataFrame = pd.read_csv(
                    stream,
                    sep=separator,
                    header=None,
                    names=list(self.names),
                    index_col=False,
                    **settings,
                )
            return frame
        except pd.errors.EmptyDataError:
            return pd.DataFrame(columns=list(self.names))
        except (ValueError, OverflowError) as error:  # pandas' parser errors are ValueErrors
            raise BadInputError(f"{self.path}: {self._reason(str(error))}") from error

    def _reason(self, said: str) -> str:
        """Return what is wrong with the rows, and with which line."""
        ragged = RAGGED.search(said)
        if ragged is None:
            return (
                "its rows cannot be split into columns (a quote that is opened and not closed does that): "
                "repair "
                "the file, or set data.separator"
            )
        wanted, row, came = map(int, ragged.groups())
        return (
            f"line {row + self.line - 1} has {came} fields, and those above it {wanted}: repair that line (a "
            "value that holds the separator needs quotes)"
        )

    def as_text(self) -> pd.DataFrame:
        """Return the columns as they are written."""
        return self.read(dtype=str)


def read_text(content: Content, spec: DataSpec) -> Table:
    """Return the columns of a text file, named by its header, by data.names or by a known layout."""
    data, encoded = to_utf8(content.data, spec.encoding, content.path)
    if not data[:4096].strip() and not data.strip():
        raise BadInputError(f"{content.path} is empty: choose another data.path")
    lines = find_lines(data, spec.skip_rows, spec.separator)
    header = find_header(lines, spec, content.path)
    if not header.rows:
        raise BadInputError(_rowless(content.path, lines, spec))
    first = header.rows[0]
    stop, cut = _footer(data, first, lines, content.path)
    data, inside = _without_comments(data[:stop], first.start, lines)
    parsed = Body(content.path, data, first.start, first.number, lines.separator, header.names)
    notes = (*encoded, *lines.notes, *header.notes, *cut, *inside)
    return Table(content.path, parsed.read(), notes, header.symbol, parsed)


def _rowless(path: Path, lines: Lines, spec: DataSpec) -> str:
    """Return that a file has no rows, and what it has."""
    if not lines.titles:
        return f"{path} has no rows below data.skip_rows={spec.skip_rows}: skip fewer, or use another file"
    if len(lines.titles) == 1:
        only = lines.titles[0].text.strip()[:60]
        return f"{path} has no rows, only the line {only!r}: choose another data.path"
    return (
        f"{path} holds no rows of numbers in its first {len(lines.titles)} lines, the first of them "
        f"{lines.titles[0].text.strip()[:60]!r}: choose another data.path"
    )


def _without_comments(data: bytes, start: int, lines: Lines) -> tuple[bytes, tuple[str, ...]]:
    """Return text without comments among its rows and without the header's line come again."""
    notes = []
    if data.find(b"#", start) >= 0 and data.find(b"\n#", start) >= 0:  # one byte is found at once
        rows, count = re.subn(rb"(?m)^#[^\r\n]*(\r\n|\n|\r)?", b"", data[start:])
        data = data[:start] + rows
        notes.append(f"{count} comment lines among the rows skipped")
    again = b"\n" + lines.titles[0].text.encode() if lines.titles else b""
    if again and data.find(again, start) >= 0:
        rows, count = re.subn(re.escape(again) + rb"(?=[\r\n]|$)", b"", data[start:])
        data = data[:start] + rows
        times = "once" if count == 1 else f"{count} times"
        notes.append(f"its header comes {times} more among the rows, and was skipped there")
    return data, tuple(notes)


def _footer(data: bytes, first: Line, lines: Lines, path: Path) -> tuple[int, tuple[str, ...]]:
    """Return where the rows end, above lines of text; a last row that breaks off is refused."""
    below: list[Line] = []
    stop = len(data)
    for line in reversed([each for each in tail_lines(data) if each.start >= first.start]):
        if not line.text.strip():
            continue
        cells = split(line.text, lines.separator)
        told = len(cells) != lines.width and not is_number(cells[0])
        words = len(cells) == lines.width and not any(map(is_number, cells[:2])) and not _is_stamp(cells[0])
        if not (told or words) or len(below) == MAX_FOOTER or _like_first(first, lines, cells[0]):
            _refuse_cut(line, cells, first, lines, path, data)
            break
        below.append(line)
        stop = line.start
    if not below:
        return len(data), ()
    named = f"line {line_number(data, below[-1])}" if len(below) == 1 else f"{len(below)} lines"
    return stop, (f"{named} below the rows skipped ({below[-1].text.strip()[:40]})",)


def _like_first(first: Line, lines: Lines, cell: str) -> bool:
    """Return whether the rows begin with a word, as files of several symbols do."""
    return not is_number(split(first.text, lines.separator)[0]) and bool(cell)


def _is_stamp(cell: str) -> bool:
    return any(letter.isdigit() for letter in cell)


def _refuse_cut(line: Line, cells: Sequence[str], first: Line, lines: Lines, path: Path, data: bytes) -> None:
    """Refuse a last row with fewer fields than all others."""
    if len(cells) < lines.width - 1 and line.start != first.start and len(lines.rows) > 1:
        raise BadInputError(
            f"{path}: line {line_number(data, line)}, the last, has {len(cells)} of {lines.width} fields, so "
            "the file was cut or has a note there: delete that line, or download the file again"
        )


def line_of(body: Body, row: int) -> int:
    """Return the number of the line that a data row stands on, where no row spans lines."""
    at = body.line
    for seen, text in enumerate(LINE_END.split(body.data[body.start :])):
        if text.strip():
            if row == 0:
                return at + seen
            row -= 1
    return at
