"""Markdown of numbers."""

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def times(ratio: float) -> str:
    """Return a ratio with as many digits as it carries."""
    return f"{float(f'{ratio:.3g}'):,g}"
