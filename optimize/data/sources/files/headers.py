"""Column names of a text file: from its header, from data.names, or from a known layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.data.sources.files.column_names import OPEN_HIGH_LOW, is_stamp_name, plain_name
from optimize.data.sources.files.text import COMMENTS, DATE, Line, Lines, split
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

TICKER_ROW = ("ticker", "tickers", "symbol", "symbols")
JOINED = "\x1f"  # separates field and ticker in the column names of a wide table
EPOCH = re.compile(r"\d{9,19}(\.\d+)?")
DATE_DIGITS = re.compile(r"(19|20)\d{6}(\d{2}|\d{4}|\d{6})?([ T;]\d{4,6})?")
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?|\d{4}|\d{6}")
WORD = re.compile(r"[A-Za-z][\w.\-/=^]*")
MAX_REST = 8  # columns after the prices
SAMPLE = 100
SLACK = 1e-9
OHLC = ("open", "high", "low", "close")
ORDERS = (OHLC, ("low", "high", "open", "close"), ("open", "close", "high", "low"))


@dataclass(frozen=True, slots=True)
class Header:
    """Names of the columns, and the first rows."""

    names: tuple[str, ...]
    rows: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    symbol: str | None = None


def find_header(lines: Lines, spec: DataSpec, path: Path) -> Header:
    """Return the column names, one per field of a row."""
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
        return Header(found.names, rows, (*notes, f"it has no header: {found.note}"))
    cells = [split(_bare(line.text), lines.separator) for line in titles]
    names, header_notes, symbol = _merged(cells)
    if len(titles) > 1:
        header_notes = [*header_notes, f"its {len(titles)} header lines read as one"]
    width = _width(rows, lines)
    names, filled = _fitted(names, width, rows, lines, path)
    return Header(_distinct(names), rows, (*notes, *header_notes, *filled), symbol)


def _bare(text: str) -> str:
    """Return a line without its comment mark."""
    text = text.strip()
    mark = next((each for each in COMMENTS if text.startswith(each)), "")
    return text.removeprefix(mark).strip()


def _is_header(comment: Line, lines: Lines) -> bool:
    """Return whether a comment names as many columns as the rows have."""
    cells = [plain_name(cell) for cell in split(_bare(comment.text), lines.separator)]
    return len(cells) == lines.width and len(OPEN_HIGH_LOW & set(cells)) >= 2


def _given(names: Sequence[str], lines: Lines, rows: Sequence[Line], path: Path) -> tuple[str, ...]:
    """Return data.names; refuse a number of names other than the fields of a row."""
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
    """Return the most frequent number of fields in the first rows."""
    counts = [len(split(line.text, lines.separator)) for line in rows[:20]]
    return lines.width if not counts else max(counts, key=counts.count)


def _merged(cells: list[list[str]]) -> tuple[list[str], list[str], str | None]:
    """Return one name per column from one or more header lines, with the ticker if there are several."""
    if len(cells) == 1:
        return cells[0], [], None
    fields = max(cells, key=lambda row: len(OPEN_HIGH_LOW & set(map(plain_name, row))))
    tickers = next((row for row in cells if row is not fields and _names_tickers(row, fields)), None)
    stamps = [row[0] for row in cells if is_stamp_name(row[0])] or [fields[0]]
    names = [stamps[-1], *fields[1:]]
    several = [] if tickers is None else sorted({cell for cell in tickers[1:] if cell})
    if tickers is None or len(several) < 2:
        header_notes = f"the prices are of {several[0]}" if several else ""
        return names, [header_notes] if header_notes else [], None
    joined = [f"{name}{JOINED}{ticker}" for name, ticker in zip(names[1:], tickers[1:], strict=False)]
    return [names[0], *joined], [], "ticker"


def _names_tickers(row: Sequence[str], fields: Sequence[str]) -> bool:
    """Return whether a header line names the ticker of each column."""
    filled = all(row[1:]) and len(row) == len(fields)
    return filled and (
        plain_name(row[0]) in TICKER_ROW or plain_name(fields[0]) in ("", "price", "attributes")
    )


def _fitted(
    names: list[str], width: int, rows: Sequence[Line], lines: Lines, path: Path
) -> tuple[list[str], list[str]]:
    """Return one name per field; refuse a header that differs from the rows in an unclear way."""
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
        filled, header_notes = _first_named(["", *names], sample)
        if filled[0]:
            return filled, header_notes
    raise BadInputError(
        f"{path}: its header has {len(names)} names ({', '.join(names)[:80]}) and line {rows[0].number} has "
        f"{width} "
        f"fields ({rows[0].text.strip()[:80]}): repair the header, or name all {width} columns in order with "
        "data.names=[timestamp,open,...] (a number that holds the separator needs quotes)"
    )


def _first_named(names: list[str], sample: list[list[str]]) -> tuple[list[str], list[str]]:
    """Return the names with a name for an unnamed first column: timestamp, or row number."""
    if names[0]:
        return names, []
    stamped = any(map(is_stamp_name, names))
    if not stamped and (DATE.fullmatch(sample[0][0]) or EPOCH.fullmatch(sample[0][0])):
        return ["timestamp", *names[1:]], ["the first column, which has no name, taken as time"]
    if stamped and all(cells[0].isdigit() for cells in sample):
        return ["row", *names[1:]], []
    return names, []


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with repeated ones numbered and empty ones called `unnamed`."""
    made: list[str] = []
    for name in names:
        base = name or "unnamed"
        count = sum(each == base or each.startswith(f"{base} (") for each in made)
        made.append(f"{base} ({count + 1})" if count else base)
    return tuple(made)


def _unnamed(path: Path, lines: Lines, rows: Sequence[Line]) -> str:
    """Return the message on a file without header and known layout, with the settings to use."""
    first = rows[0] if rows else None
    shown = f" (line {first.number} is {first.text.strip()[:80]})" if first else ""
    return (
        f"{path} has no header{shown}, and its {lines.width} columns are in no layout that is known: name "
        "them in "
        "order with data.names, such as data.names=[timestamp,open,high,low,close,volume], by any word "
        "where a "
        "column is not read; data.header=true where the first line is a header"
    )


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Column names of a file without a header."""

    names: tuple[str, ...]
    note: str


def known_layout(rows: Sequence[Sequence[str]]) -> ColumnLayout | None:
    """Return the layout that fits all rows of a sample; None if there is none."""
    rows = [row for row in rows[:SAMPLE] if len(row) == len(rows[0])]
    width = len(rows[0])
    if width >= 6 and all(WORD.fullmatch(row[0]) for row in rows):  # MetaStock: symbol first
        inner = known_layout([row[1:] for row in rows])
        return inner and ColumnLayout(("symbol", *inner.names), inner.note.replace("as ", "as symbol, ", 1))
    if width >= 7 and all(_is_date(row[0]) and CLOCK.fullmatch(row[1]) for row in rows):
        found = _priced(rows, ("date", "time"), width)
        if found is not None:
            return found
    if all(_is_stamp(row[0]) for row in rows):
        return _priced(rows, ("timestamp",), width)
    return None


def _priced(rows: Sequence[Sequence[str]], stamps: tuple[str, ...], width: int) -> ColumnLayout | None:
    """Return the layout of rows with prices in a known order after the timestamps."""
    first = len(stamps)
    fitting = [order for order in ORDERS if _fits(rows, first, order)]
    if not fitting:
        return None
    order = fitting[0]
    rest = _rest(rows, first, width) if order == OHLC else _plain_rest(width - first - 4)
    if rest is None:
        return None
    names = (*stamps, *order, *rest)
    shown = [name for name in names if not name.startswith("unread")]
    more = "" if len(shown) == len(names) else f" and {len(names) - len(shown)} that are not read"
    return ColumnLayout(names, f"its columns taken as {', '.join(shown)}{more}")


def _rest(rows: Sequence[Sequence[str]], first: int, width: int) -> tuple[str, ...] | None:
    """Return the names of the columns after the prices: of Binance, Kraken, MetaTrader, or a volume."""
    count = width - first - 4
    if first == 1 and width in (11, 12) and all(EPOCH.fullmatch(row[6]) for row in rows):
        return ("volume", "close_time", "quote_volume", "trades", "unread 1", "unread 2", "unread 3")[:count]
    if (
        first == 1 and count == 3 and _within(rows, first + 4, first)
    ):  # volume-weighted price of Kraken's interface
        return ("unread 1", "volume", "trades")
    if first == 2 and count == 3:  # MetaTrader 5: tick volume, real volume, spread
        return ("tickvol", "vol", "spread")
    if first == 1 and count == 2:  # Kraken: trades; HistData has none
        return ("volume", "trades")
    return _plain_rest(count)


def _plain_rest(count: int) -> tuple[str, ...] | None:
    """Return a volume and unread columns as the names after the prices."""
    if count > MAX_REST:
        return None
    return ("volume", *(f"unread {at}" for at in range(1, count)))[:count]


def _fits(rows: Sequence[Sequence[str]], first: int, order: Sequence[str]) -> bool:
    """Return whether prices in this order satisfy low <= open, close <= high in every row."""
    for row in rows:
        try:
            prices = dict(zip(order, map(_number, row[first : first + 4]), strict=True))
        except ValueError:
            return False
        slack = SLACK * abs(prices["close"])
        ends = (prices["open"], prices["close"])
        if not (0 < prices["low"] <= min(ends) + slack and max(ends) <= prices["high"] + slack):
            return False
    return True


def _within(rows: Sequence[Sequence[str]], column: int, first: int) -> bool:
    """Return whether a column lies between low and high in every row."""
    try:
        return all(_number(row[first + 2]) <= _number(row[column]) <= _number(row[first + 1]) for row in rows)
    except ValueError:
        return False


def _number(text: str) -> float:
    """Parse a number with a decimal point or comma."""
    return float(text.replace(",", ".") if "." not in text else text)


def _is_stamp(cell: str) -> bool:
    return bool(EPOCH.fullmatch(cell) or DATE_DIGITS.fullmatch(cell) or DATE.fullmatch(cell))


def _is_date(cell: str) -> bool:
    return bool(DATE_DIGITS.fullmatch(cell) or DATE.fullmatch(cell))
