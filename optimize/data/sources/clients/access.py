"""Access to providers: client packages, API keys, addresses, and messages without keys."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from optimize.errors import BadInputError, install_hint, nearest
from optimize.secrets import hide_values

KEYS = {  # environment variables of each provider's key and secret; the first one set is used
    "alpaca": (("ALPACA_API_KEY", "APCA_API_KEY_ID"), ("ALPACA_SECRET_KEY", "APCA_API_SECRET_KEY")),
    "coinbase": (("COINBASE_API_KEY",), ("COINBASE_API_SECRET",)),
}
KEY_FILE = ".env"  # in the directory of invocation; environment variables take precedence
MAX_TEXT = 300  # characters of a server's message
NEAR_NAMES = 5


def import_extra(provider: str, package: str, module: str) -> Any:
    """Import a client library; if it is missing, raise an error with the install command."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise BadInputError(
            f"data.provider={provider} needs the {package} package: {install_hint(provider)}"
        ) from error


def find_keys(provider: str) -> tuple[str, str] | None:
    """Return key and secret from the environment, else from .env; None if neither has them."""
    half: list[int] = []
    for source in (os.environ, stored_keys()):
        found = [_first_set(source, names) for names in KEYS[provider]]
        if all(found):
            return found[0], found[1]
        half += [place for place, value in enumerate(found) if value]
    if not half:
        return None
    present = half[0]
    raise BadInputError(
        f"data.provider={provider}: the environment and {KEY_FILE} have "
        f"{' or '.join(KEYS[provider][present])}, but not {' or '.join(KEYS[provider][1 - present])} "
        "beside it: set both in one place, or neither"
    )


def key_variables() -> tuple[str, ...]:
    """Return every environment variable that may hold a key of a provider."""
    return tuple(name for pair in KEYS.values() for names in pair for name in names)


def spell_keys(provider: str) -> str:
    """Return the environment variables that hold a provider's keys, as text."""
    return " and ".join(names[0] for names in KEYS[provider])


def find_address(provider: str) -> str | None:
    """Return the address to use instead of the provider's own, such as a mirror; None if not set."""
    variable = f"WALKFORGE_{provider.upper()}_URL"
    address = os.environ.get(variable, "").rstrip("/")
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInputError(
            f"{variable}={hide_keys(address)!r} is not an address: it must be like https://mirror.example"
        )
    return address


def near_names(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """Return the known names similar to a name, as the end of a sentence; empty if there are none."""
    near = nearest(name, known, NEAR_NAMES, cutoff)
    return f"; near names: {', '.join(near)}" if near else ""


def masked_line(error: object) -> str:
    """Return an error's message as one short line with all keys masked."""
    text = " ".join(hide_keys(str(error)).split()) or type(error).__name__
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def hide_keys(text: str) -> str:
    """Return text with keys of the environment and .env, signed tokens and users in URLs masked."""
    sources = (os.environ, stored_keys())
    return hide_values(text, [source.get(name) or "" for source in sources for name in key_variables()])


def stored_keys() -> dict[str, str | None]:
    """Return the variables of .env without exporting them to the environment; empty if there is no file."""
    path = Path(KEY_FILE)
    if not path.is_file():
        return {}
    try:
        return dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInputError(f"{path.resolve()} cannot be read ({reason}): mend or remove it") from None


def _first_set(source: Mapping[str, str | None], names: tuple[str, ...]) -> str:
    """Return the first non-empty value under one of the names."""
    return next((value for name in names if (value := (source.get(name) or "").strip())), "")
