"""The names of a text file's columns: from its header, from data.names, or from a layout that is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.data.sources.layouts import EPOCH, known_layout
from optimize.data.sources.names import OPEN_HIGH_LOW, is_stamp_name, plain
from optimize.data.sources.text import COMMENTS, DATE, Line, Lines, split
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

TICKER_ROW = ("ticker", "tickers", "symbol", "symbols")
JOINED = "\x1f"  # between the field and the ticker in the name of a column of a wide table


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, and the first rows."""

    names: tuple[str, ...]
    rows: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    symbol: str | None = None


def find_header(lines: Lines, spec: DataSpec, path: Path) -> Header:
    """Return the names of the columns, as many as a row has fields."""
    titles, rows, notes = list(lines.titles), lines.rows, []
    if spec.header is False:
        titles, rows = [], (*lines.titles, *rows)
    elif spec.header and not titles and rows:
        titles, rows = [rows[0]], rows[1:]
    elif not titles and lines.commented is not None and _is_header(lines.commented, lines):
        titles, notes = (
            [lines.commented],
            [f"the comment in line {lines.commented.number} taken as the header"],
        )
    if spec.names:
        return Header(_given(spec.names, lines, rows, path), rows, tuple(notes))
    if not titles and not rows:
        return Header((), ())
    if not titles:
        sample = [split(line.text, lines.separator) for line in rows]
        found = known_layout(sample) if sample else None
        if found is None:
            raise BadInputError(_unnamed(path, lines, rows))
        return Header(found.names, rows, (*notes, f"it has no header: {found.told}"))
    cells = [split(_bare(line.text), lines.separator) for line in titles]
    names, told, symbol = _merged(cells)
    if len(titles) > 1:
        told = [*told, f"its {len(titles)} header lines read as one"]
    width = _width(rows, lines)
    names, filled = _fitted(names, width, rows, lines, path)
    return Header(_distinct(names), rows, (*notes, *told, *filled), symbol)


def _bare(text: str) -> str:
    """Return a line without the mark of a comment."""
    text = text.strip()
    mark = next((each for each in COMMENTS if text.startswith(each)), "")
    return text.removeprefix(mark).strip()


def _is_header(comment: Line, lines: Lines) -> bool:
    """Return whether a comment names as many columns as the rows have."""
    cells = [plain(cell) for cell in split(_bare(comment.text), lines.separator)]
    return len(cells) == lines.width and len(OPEN_HIGH_LOW & set(cells)) >= 2


def _given(names: Sequence[str], lines: Lines, rows: Sequence[Line], path: Path) -> tuple[str, ...]:
    """Return data.names, which must be as many as the fields of a row."""
    width = _width(rows, lines)
    if len(names) == width:
        return tuple(names)
    shown = f" ({rows[0].text.strip()[:60]})" if rows else ""
    raise BadInputError(
        f"{path}: data.names has {len(names)} names and a row has {width} fields{shown}: name each in "
        "order, by any "
        "word where a column is not read"
    )


def _width(rows: Sequence[Line], lines: Lines) -> int:
    """Return how many fields the first rows have at most."""
    counts = [len(split(line.text, lines.separator)) for line in rows[:20]]
    return lines.width if not counts else max(counts, key=counts.count)


def _merged(cells: list[list[str]]) -> tuple[list[str], list[str], str | None]:
    """Return one name a column from one or several header lines, with the ticker where there are several."""
    if len(cells) == 1:
        return cells[0], [], None
    fields = max(cells, key=lambda row: len(OPEN_HIGH_LOW & set(map(plain, row))))
    tickers = next((row for row in cells if row is not fields and _names_tickers(row, fields)), None)
    stamps = [row[0] for row in cells if is_stamp_name(row[0])] or [fields[0]]
    names = [stamps[-1], *fields[1:]]
    several = [] if tickers is None else sorted({cell for cell in tickers[1:] if cell})
    if tickers is None or len(several) < 2:
        told = f"the prices are of {several[0]}" if several else ""
        return names, [told] if told else [], None
    joined = [f"{name}{JOINED}{ticker}" for name, ticker in zip(names[1:], tickers[1:], strict=False)]
    return [names[0], *joined], [], "ticker"


def _names_tickers(row: Sequence[str], fields: Sequence[str]) -> bool:
    """Return whether a header line names the ticker of each column."""
    filled = all(row[1:]) and len(row) == len(fields)
    return filled and (plain(row[0]) in TICKER_ROW or plain(fields[0]) in ("", "price", "attributes"))


def _fitted(
    names: list[str], width: int, rows: Sequence[Line], lines: Lines, path: Path
) -> tuple[list[str], list[str]]:
    """Return as many names as a row has fields, where it is plain which are missing or too many."""
    if not rows:
        return names, []
    sample = [split(line.text, lines.separator) for line in rows[:20]]
    first = sample[0]
    if len(names) == width:
        return _first_named(names, sample)
    if len(names) == width + 1 and not names[-1]:
        return names[:-1], []
    if len(names) == width - 1:
        if all(not cells[-1] for cells in sample if len(cells) == width):
            return [*names, ""], ["every row ends with a separator more than the header, which was left out"]
        if is_stamp_name(names[0]) and DATE.fullmatch(first[0]) and ":" in first[1]:
            return ["date", "time", *names[1:]], ["the first two fields of a row taken as date and time"]
        filled, told = _first_named(["", *names], sample)
        if filled[0]:
            return filled, told
    raise BadInputError(
        f"{path}: its header has {len(names)} names ({', '.join(names)[:80]}) and line {rows[0].number} has "
        f"{width} "
        f"fields ({rows[0].text.strip()[:80]}): repair the header, or name all {width} columns in order with "
        "data.names=[timestamp,open,...] (a number that holds the separator needs quotes)"
    )


def _first_named(names: list[str], sample: list[list[str]]) -> tuple[list[str], list[str]]:
    """Return the names, with one for a first column that has none: time, or the number of the row."""
    if names[0]:
        return names, []
    stamped = any(map(is_stamp_name, names))
    if not stamped and (DATE.fullmatch(sample[0][0]) or EPOCH.fullmatch(sample[0][0])):
        return ["timestamp", *names[1:]], ["the first column, which has no name, taken as time"]
    if stamped and all(cells[0].isdigit() for cells in sample):
        return ["row", *names[1:]], []
    return names, []


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, a second one of the same name numbered, one without a name called `unnamed`."""
    made: list[str] = []
    for name in names:
        base = name or "unnamed"
        count = sum(each == base or each.startswith(f"{base} (") for each in made)
        made.append(f"{base} ({count + 1})" if count else base)
    return tuple(made)


def _unnamed(path: Path, lines: Lines, rows: Sequence[Line]) -> str:
    """Return that a file has no header and no known layout, and what to type."""
    first = rows[0] if rows else None
    shown = f" (line {first.number} is {first.text.strip()[:80]})" if first else ""
    return (
        f"{path} has no header{shown}, and its {lines.width} columns are in no layout that is known: name "
        "them in "
        "order with data.names, such as data.names=[timestamp,open,high,low,close,volume], by any word "
        "where a "
        "column is not read; data.header=true where the first line is a header"
    )
