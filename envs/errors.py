"""The root of every error that Walkforge raises on purpose."""


class WalkforgeError(Exception):
    """An error whose one-line message says what, where, what is allowed and what to do."""

    exit_code = 1


class BadInputError(WalkforgeError):
    """The user's input cannot be used; raised before any training."""

    exit_code = 2


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise BadInputError naming the key, the value that came and what is allowed, unless condition."""
    if not condition:
        raise BadInputError(f"{key}={value!r} is not allowed: {key} must be {allowed}")
