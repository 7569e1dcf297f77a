"""Base classes of Walkforge's errors, and the refusal of a value with the name that was probably meant."""

import difflib
from collections.abc import Iterable


class WalkforgeError(Exception):
    """Error with a one-line message: the value, its place, the allowed range and the remedy."""

    exit_code = 1


class BadInputError(WalkforgeError):
    """The user's input cannot be used; raised before any training."""

    exit_code = 2


def require(condition: bool, key: str, value: object, allowed: str, names: Iterable[object] = ()) -> None:
    """Raise BadInputError with the key, its value and the allowed range, unless a condition holds.

    `names` are the allowed ones of a closed list: the message ends with the nearest.
    """
    if not condition:
        hint = near_hint(value, names)
        raise BadInputError(f"{key}={value!r} is not allowed: {key} must be {allowed}{hint}")


def near_hint(typed: object, names: Iterable[object]) -> str:
    """Return the name that was probably meant, as the end of a sentence; empty where none is near."""
    near = nearest(str(typed), map(str, names))
    return f"; did you mean {near[0]}?" if near else ""


def nearest(typed: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names nearest to a typed one, the best first; capital letters do not count."""
    known = {name.lower(): name for name in names}
    return [known[each] for each in difflib.get_close_matches(typed.lower(), known, count, cutoff)]
