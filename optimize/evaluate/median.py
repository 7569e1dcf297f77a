"""The lower median of scores, some of which are missing. Free of numpy: verbs that read records use it."""

from collections.abc import Sequence


def lower_median(values: Sequence[float | None]) -> float | None:
    """Return the lower median, in which None counts below every number; None for no values."""
    ordered = sorted(values, key=lambda value: float("-inf") if value is None else value)
    return ordered[(len(ordered) - 1) // 2] if ordered else None
