"""Figures as text, rounded in one place for tables of the command line, notes, cards and pictures."""

import math
from collections.abc import Callable
from textwrap import wrap
from typing import Any

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SOLID = "\N{NO-BREAK SPACE}"  # keeps a cell on one line, and cells apart where the page draws no borders
LEGEND_WIDTH = 44  # characters of a line in a legend, which a phone shows
FigureWriter = Callable[[Any], str]


def _rounded(value: float | None, digits: int, plus: bool = False) -> str | None:
    """Return a number with so many digits after the point, None where there is none or it is not finite.

    A number that rounds to zero has no minus.
    """
    if value is None or not math.isfinite(value):
        return None
    return f"{value:{'+' if plus else ''}z.{digits}f}"


def decimal(value: float | None, digits: int = 2) -> str:
    """Return a number for a note or a card, or a dash where there is none."""
    text = _rounded(value, digits)
    return NOTHING if text is None else text.replace("-", MINUS)


def in_percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage for a note or a card, or a dash where there is none."""
    text = decimal(None if value is None else 100 * value, digits)
    return text if text == NOTHING else f"{text}{SOLID}%"


def plain_figure(text: str) -> str:
    """Return a figure of a note or a card as a terminal's tables have it: a plain minus and percent sign."""
    return text.replace(MINUS, "-").replace(NOTHING, "-").replace(f"{SOLID}%", "%")


def number(digits: int = 2) -> FigureWriter:
    """Return a writer of table cells with so many digits after the point."""
    return lambda value: _rounded(value, digits) or "-"


def signed(digits: int = 2) -> FigureWriter:
    """Return a writer of table cells with their sign."""
    return lambda value: _rounded(value, digits, plus=True) or "-"


def format_score(value: float | None) -> str:
    """Return a score, or a Sharpe ratio, as every table, line and picture shows it."""
    return signed()(value)


def probability(value: float | None) -> str:
    """Return a probability or a p-value with three digits, for a table cell."""
    return number(3)(value)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with its sign, for a table cell."""
    text = _rounded(None if value is None else 100 * value, 1, plus=True)
    return "-" if text is None else f"{text}%"


def share(value: float | None) -> str:
    """Return a fraction as a percentage without a sign, finer where it is small, for a table cell."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{_rounded(100 * value, 1)}%" if abs(value) >= 0.001 or value == 0 else f"{100 * value:.2g}%"


def gigabytes(size_bytes: float) -> str:
    """Return a size of files or memory as text."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd and so on."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


def legend_text(name: str | None) -> str | None:
    """Return the name of a line in a Plotly legend, broken where it is long: Plotly itself breaks none."""
    if name is None or "<br>" in name:
        return name
    return "<br>".join(wrap(name, LEGEND_WIDTH)) or name
