"""Lines of help and of explanations: wrapped text, and values as they are typed."""

import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

WIDEST = 100  # characters of a line where the output is no terminal
COMMENT = 34  # characters before the comment of a key
LEAST = 30  # characters of text beside an indent


def line_width() -> int:
    """Return the characters of a line: those of the terminal, at most WIDEST."""
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 40)).columns)


def wrap(start: str, text: str, further: str | None = None) -> Iterator[str]:
    """Yield a text behind a start, its further lines indented as far or by `further`."""
    indent = " " * len(start) if further is None else further
    yield from textwrap.wrap(
        text, max(line_width(), len(indent) + LEAST), initial_indent=start, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [start.rstrip()]  # fmt: skip


def wrap_comment(shown: str, comment: str) -> Iterator[str]:
    """Yield a key with its comment behind it, or below it where the key is long."""
    if not comment:
        yield shown
        return
    further = " " * (COMMENT + 2) + "# "
    if len(shown) + LEAST > line_width():
        yield shown
        yield from wrap(further, comment, further)
    else:
        yield from wrap(f"{shown:<{COMMENT}}  # ", comment, further)


def spell_value(value: Any) -> str:
    """Return a value as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(spell_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{spell_value(each)}' for key, each in value.items())}}}"
    return str(value)
