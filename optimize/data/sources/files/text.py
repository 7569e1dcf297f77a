"""Decode a text file and find its separator and the lines before its rows."""

import codecs
import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from optimize.data.sources.files.column_names import OPEN_HIGH_LOW, plain_name
from optimize.data.spec import SEPARATORS
from optimize.errors import BadInputError

HEAD_BYTES = 1 << 16
HEAD_LINES = 200
TAIL_BYTES = 1 << 13
MIN_FIELDS = 4
CONTROL_CHARACTERS = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")
MAX_CONTROL = 0.02  # share of control bytes in a text
AGREEING = 0.6  # share of lines with the same number of fields
LINE_END = re.compile(rb"\r\n|\n|\r")
COMMENTS = ("#", "//", "%")
NUMBER_PATTERN = re.compile(
    r"[-+(]?[$€£¥₹]?\s*[-+]?\d[\d.,'\s]*(?:[eE][-+]?\d+)?\s*[%KMBT€]?\)?|nan|null|n/a|-", re.IGNORECASE
)
DATE = re.compile(
    r"\d{1,4}[-./]\w{1,3}[-./]\d{1,4}.*|\d{4}-\d\d.*|\d{8}[ T]\d{4,6}.*|\d{1,2}:\d{2}.*"
    r"|\w{3,9}\.? \d{1,2},? \d{4}.*"
)
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text file."""

    number: int  # from 1
    start: int  # offset of its first byte
    end: int  # offset of the first byte after its line end
    text: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Separator of a text file, its header lines and first rows."""

    separator: str
    width: int  # fields per row
    titles: tuple[Line, ...]  # lines before the rows with that many fields, headers included
    rows: tuple[Line, ...]  # the first rows
    commented: Line | None  # last comment before the rows, possibly a header
    notes: tuple[str, ...]


def to_utf8(data: bytes, encoding: str | None, path: Path) -> tuple[bytes, tuple[str, ...]]:
    """Return text as UTF-8 without a byte order mark, and a note on an assumed encoding."""
    notes: tuple[str, ...] = ()
    if encoding is None:
        encoding = next((name for mark, name in MARKS if data.startswith(mark)), None)
        encoding = encoding or _without_mark(data[:HEAD_BYTES])
        notes = (f"its text is {encoding}",) if encoding and encoding != "utf-8-sig" else ()
    if encoding is None and not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = 1 + len(LINE_END.findall(data[: error.start]))
            encoding = "cp1252"
            notes = (f"its text is cp1252, for line {line} is not UTF-8 (data.encoding names another)",)
    if encoding is not None:
        data = _recode(data, encoding, path)
    if b"\0" in data:
        line = 1 + len(LINE_END.findall(data[: data.index(b"\0")]))
        raise BadInputError(
            f"{path}: line {line} holds NUL bytes, so it is not text, or was cut while it was written: "
            "export or "
            "download it again"
        )
    head = data[:HEAD_BYTES]
    if len(CONTROL_CHARACTERS.findall(head)) > MAX_CONTROL * len(head):
        raise BadInputError(f"{path} is neither text nor in a readable format: write it as CSV or Parquet")
    return data, notes


def _without_mark(head: bytes) -> str | None:
    """Return the encoding of UTF-16 text without a byte order mark: every second byte of ASCII is 0."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < 0.3 * len(head) / 2 or min(even, odd) > 0.05 * len(head):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _recode(data: bytes, encoding: str, path: Path) -> bytes:
    """Convert text to UTF-8."""
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode("utf-8")
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        if encoding == "cp1252":  # five bytes are undefined in cp1252 and occur in no header
            return data.decode("latin-1").encode("utf-8")
        line = 1 + len(LINE_END.findall(data[:start]))
        raise BadInputError(
            f"{path}: line {line} cannot be read as {encoding}: name its encoding with data.encoding, such "
            "as "
            "utf-8, utf-16 or cp1252"
        ) from error


def find_lines(data: bytes, skip_rows: int, separator: str | None) -> Lines:
    """Find the separator and the lines before the rows from the first lines of a file."""
    every = head_lines(data)
    lines = [each for each in every[skip_rows:] if each.text.strip()]
    notes = [f"its first {skip_rows} lines skipped"] if skip_rows else []
    if lines and re.fullmatch(r"\"?sep=.\"?", lines[0].text.strip(), re.IGNORECASE):
        separator = separator or lines[0].text.strip().strip('"')[4:]
        notes.append(f"line {lines[0].number} skipped ({lines[0].text.strip()})")
        lines = lines[1:]
    comments = [each for each in lines if each.text.lstrip().startswith(COMMENTS)]
    lines = [each for each in lines if not each.text.lstrip().startswith(COMMENTS)]
    separator = separator or _separator([each.text for each in lines[len(lines) // 4 :]] or [""])
    counts = [len(split(each.text, separator)) for each in lines]
    width = _usual(counts[len(counts) // 4 :])
    fitting = (at for at, count in enumerate(counts) if abs(count - width) <= 1 and count > 1)
    named = (at for at, each in enumerate(lines) if _names_prices(each.text, separator))
    first = min(next(fitting, 0), next(named, len(lines)))
    if first:
        notes.append(f"{_numbered(lines[:first])} above the header skipped ({_short(lines[0].text)})")
    above = [each for each in comments if not lines or each.number < lines[first].number]
    if above:
        notes.append(f"{_numbered(above)} skipped, of comments ({_short(above[0].text)})")
    titles = _titles(lines[first:], separator)
    rows = tuple(lines[first + len(titles) :])
    return Lines(separator, width, titles, rows, above[-1] if above else None, tuple(notes))


def head_lines(data: bytes) -> list[Line]:
    """Return the first lines of a file, without one that the look breaks off."""
    head = data[:HEAD_BYTES]
    lines, start = [], 0
    for found in LINE_END.finditer(head):
        lines.append((start, found.end(), head[start : found.start()]))
        start = found.end()
        if len(lines) == HEAD_LINES:
            break
    else:
        if start < len(data) and len(data) <= HEAD_BYTES:
            lines.append((start, len(head), head[start:]))
    texts = ((begin, end, text.decode("utf-8", errors="replace")) for begin, end, text in lines)
    return [Line(number, *each) for number, each in enumerate(texts, start=1)]


def split(text: str, separator: str) -> list[str]:
    """Return the fields of a line without surrounding quotes and blanks."""
    if separator == " ":
        return text.split()
    try:
        fields = next(csv.reader([text], delimiter=separator), [])
    except csv.Error:
        fields = text.split(separator)
    return [each.strip() for each in fields]


def is_number(cell: str) -> bool:
    """Return whether a cell is a number or a date, and thus not a column name."""
    text = cell.strip()
    return bool(NUMBER_PATTERN.fullmatch(text) or DATE.fullmatch(text))


def tail_lines(data: bytes) -> list[Line]:
    """Return the last lines of a file, numbered from 0."""
    start = max(0, len(data) - TAIL_BYTES)
    if start:
        start = data.find(b"\n", start) + 1
    tail = data[start:]
    lines, begin = [], 0
    for found in LINE_END.finditer(tail):
        lines.append((begin, found.end(), tail[begin : found.start()]))
        begin = found.end()
    if begin < len(tail):
        lines.append((begin, len(tail), tail[begin:]))
    return [
        Line(at, start + one, start + two, text.decode("utf-8", errors="replace"))
        for at, (one, two, text) in enumerate(lines)
    ]


def _names_prices(text: str, separator: str) -> bool:
    """Return whether a line names at least three of open, high, low and close."""
    return len(OPEN_HIGH_LOW & set(map(plain_name, split(text, separator)))) >= 3


def line_number(data: bytes, line: Line) -> int:
    """Return the line number within the file, from 1."""
    return 1 + len(LINE_END.findall(data[: line.start]))


def _separator(lines: list[str]) -> str:
    """Return the separator that splits most lines into the same number of fields (>= 4); else a comma."""
    for each in SEPARATORS:
        counts = [len(split(line, each)) for line in lines]
        usual = _usual(counts)
        if usual >= MIN_FIELDS and counts.count(usual) >= AGREEING * len(counts):
            return each
    return ","


def _usual(counts: list[int]) -> int:
    """Return the most frequent number of fields."""
    return Counter(counts).most_common(1)[0][0] if counts else 0


def _titles(lines: list[Line], separator: str) -> tuple[Line, ...]:
    """Return the lines before the rows: without numbers or dates, except for one in the first line."""
    titles: list[Line] = []
    for line in lines:
        cells = [cell for cell in split(line.text, separator) if cell]
        numbers = sum(map(is_number, cells))
        if numbers >= 2 or (numbers and titles):
            break
        titles.append(line)
    return tuple(titles)


def _numbered(lines: list[Line]) -> str:
    """Return `line 3` or `2 lines`."""
    return f"line {lines[0].number}" if len(lines) == 1 else f"{len(lines)} lines"


def _short(text: str) -> str:
    """Return the beginning of a line."""
    text = text.strip()
    return text if len(text) <= 40 else text[:37] + "..."
