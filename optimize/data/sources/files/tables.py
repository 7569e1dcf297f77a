"""Read a table from a text file."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from optimize.data.sources.files.containers import Content
from optimize.data.sources.files.headers import find_header
from optimize.data.sources.files.text import (
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
    """Columns of a file as read, with notes on the assumptions made."""

    path: Path
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    symbol: str | None = None  # symbol column, if the file's format implies one
    text: "TextRows | None" = None  # source of a text file's rows, to read them again as text


@dataclass(frozen=True, slots=True)
class TextRows:
    """Rows of a text file without header and footer."""

    path: Path
    data: bytes
    start: int  # byte offset of the first row
    line: int  # line number of the first row
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

    def _reason(self, message: str) -> str:
        """Return the reason why the rows cannot be parsed, with the line."""
        ragged = RAGGED.search(message)
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
        """Return the columns as unparsed text."""
        return self.read(dtype=str)


def read_text_table(content: Content, spec: DataSpec) -> Table:
    """Return the table of a text file, with names from its header, data.names or a known layout."""
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
    parsed = TextRows(content.path, data, first.start, first.number, lines.separator, header.names)
    notes = (*encoded, *lines.notes, *header.notes, *cut, *inside)
    return Table(content.path, parsed.read(), notes, header.symbol, parsed)


def _rowless(path: Path, lines: Lines, spec: DataSpec) -> str:
    """Return the message on a file without rows."""
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
    """Return the text without comments and repeated header lines among the rows."""
    notes = []
    if data.find(b"#", start) >= 0 and data.find(b"\n#", start) >= 0:  # searching one byte first is fast
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
    """Return the offset where the rows end before a footer of text; refuse a truncated last row."""
    below: list[Line] = []
    stop = len(data)
    for line in reversed([each for each in tail_lines(data) if each.start >= first.start]):
        if not line.text.strip():
            continue
        cells = split(line.text, lines.separator)
        is_text = len(cells) != lines.width and not is_number(cells[0])
        words = len(cells) == lines.width and not any(map(is_number, cells[:2])) and not _is_stamp(cells[0])
        if not (is_text or words) or len(below) == MAX_FOOTER or _like_first(first, lines, cells[0]):
            _refuse_cut(line, cells, first, lines, path, data)
            break
        below.append(line)
        stop = line.start
    if not below:
        return len(data), ()
    named = f"line {line_number(data, below[-1])}" if len(below) == 1 else f"{len(below)} lines"
    return stop, (f"{named} below the rows skipped ({below[-1].text.strip()[:40]})",)


def _like_first(first: Line, lines: Lines, cell: str) -> bool:
    """Return whether rows begin with a word, as in files of several symbols."""
    return not is_number(split(first.text, lines.separator)[0]) and bool(cell)


def _is_stamp(cell: str) -> bool:
    return any(letter.isdigit() for letter in cell)


def _refuse_cut(line: Line, cells: Sequence[str], first: Line, lines: Lines, path: Path, data: bytes) -> None:
    """Refuse a last row with fewer fields than the others."""
    if len(cells) < lines.width - 1 and line.start != first.start and len(lines.rows) > 1:
        raise BadInputError(
            f"{path}: line {line_number(data, line)}, the last, has {len(cells)} of {lines.width} fields, so "
            "the file was cut or has a note there: delete that line, or download the file again"
        )


def line_of_row(body: TextRows, row: int) -> int:
    """Return the line number of a data row, assuming that no row spans several lines."""
    at = body.line
    for seen, text in enumerate(LINE_END.split(body.data[body.start :])):
        if text.strip():
            if row == 0:
                return at + seen
            row -= 1
    return at
