"""Base classes of Walkforge's errors."""


class WalkforgeError(Exception):
    """Error with a one-line message: the value, its place, the allowed range and the remedy."""

    exit_code = 1


class BadInputError(WalkforgeError):
    """The user's input cannot be used; raised before any training."""

    exit_code = 2


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise BadInputError with the key, its value and the allowed range, unless a condition holds."""
    if not condition:
        raise BadInputError(f"{key}={value!r} is not allowed: {key} must be {allowed}")
