"""Layouts of files without a header, recognised by their number of columns and by what holds in every row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optimize.data.sources.text import DATE

EPOCH = re.compile(r"\d{9,19}(\.\d+)?")
DIGITS = re.compile(r"(19|20)\d{6}(\d{2}|\d{4}|\d{6})?([ T;]\d{4,6})?")
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?|\d{4}|\d{6}")
WORD = re.compile(r"[A-Za-z][\w.\-/=^]*")
MAX_REST = 8  # columns behind the prices
SAMPLE = 100
SLACK = 1e-9

OHLC = ("open", "high", "low", "close")
ORDERS = (OHLC, ("low", "high", "open", "close"), ("open", "close", "high", "low"))


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a file without a header."""

    names: tuple[str, ...]
    told: str


def known_layout(rows: Sequence[Sequence[str]]) -> Layout | None:
    """Return the layout that fits every row of a sample, or None."""
    rows = [row for row in rows[:SAMPLE] if len(row) == len(rows[0])]
    width = len(rows[0])
    if width >= 6 and all(WORD.fullmatch(row[0]) for row in rows):  # MetaStock: the symbol first
        inner = known_layout([row[1:] for row in rows])
        return inner and Layout(("symbol", *inner.names), inner.told.replace("as ", "as symbol, ", 1))
    if width >= 7 and all(_is_date(row[0]) and CLOCK.fullmatch(row[1]) for row in rows):
        found = _priced(rows, ("date", "time"), width)
        if found is not None:
            return found
    if all(_is_stamp(row[0]) for row in rows):
        return _priced(rows, ("timestamp",), width)
    return None


def _priced(rows: Sequence[Sequence[str]], stamps: tuple[str, ...], width: int) -> Layout | None:
    """Return the layout of rows whose prices stand in a known order behind their stamps."""
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
    return Layout(names, f"its columns taken as {', '.join(shown)}{more}")


def _rest(rows: Sequence[Sequence[str]], first: int, width: int) -> tuple[str, ...] | None:
    """Return the names of the columns behind the prices: Binance's, Kraken's, MetaTrader's, or a volume."""
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
    """Return the names behind the prices where they are a volume and others."""
    if count > MAX_REST:
        return None
    return ("volume", *(f"unread {at}" for at in range(1, count)))[:count]


def _fits(rows: Sequence[Sequence[str]], first: int, order: Sequence[str]) -> bool:
    """Return whether low <= open, close <= high holds in every row, for prices in this order."""
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
    """Return a number with a decimal point or comma."""
    return float(text.replace(",", ".") if "." not in text else text)


def _is_stamp(cell: str) -> bool:
    return bool(EPOCH.fullmatch(cell) or DIGITS.fullmatch(cell) or DATE.fullmatch(cell))


def _is_date(cell: str) -> bool:
    return bool(DIGITS.fullmatch(cell) or DATE.fullmatch(cell))
