"""Passwords, tokens and keys: the one place that masks them in texts and keeps them out of the database."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

HIDDEN = "***"
PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s/:@]*):\S+@")  # of a URL, such as a database's
OPTION = re.compile(r"([?&](?:ssl)?password=)[^&\s'\"]*")  # a password among the options of a URL
USER = re.compile(r"(?<=://)[^/\s@]+@")  # user and password of a mirror
SIGNED = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]+){1,2}")  # the JSON Web Token of a signed request
# The rest of a service's URL may be a token; databases and places of a configuration have none.
SERVICE = re.compile(
    r"(?<![\w+.-])(?!(?:sqlite|postgres|postgresql|postgresql\+psycopg|pkg|file|structured)://)"
    r"(\w[\w+.-]*://)\S+"
)
NOTIFY = re.compile(r"^[+~]*notify\b(?!\.\W?on\b)")  # a word that may hold tokens of services
SECRET_KEY = re.compile(r"(password|passwd|secret|token|api_?key|urls)$", re.IGNORECASE)
SECRET_VARIABLE = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|NOTIFY_URLS)")
BARE_PASSWORD = re.compile(r"^[^:/@\s]*:(?!//)(\S+)@")  # of a database URL without its scheme
APART = re.compile(r"[\[\]{},\s'\"]+")
MIN_WORD, MIN_VARIABLE = 4, 9  # characters of a secret that is masked wherever it stands


def hide_secrets(text: str, words: Sequence[str] = ()) -> str:
    """Return a text for people without secrets; `words` are those of the command it is about."""
    for secret in sorted({*_typed(words), *_of_environment()}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = OPTION.sub(rf"\1{HIDDEN}", PASSWORD.sub(rf"\1:{HIDDEN}@", text))
    return SIGNED.sub(HIDDEN, SERVICE.sub(rf"\1{HIDDEN}", text))


def hide_values(text: str, values: Iterable[str]) -> str:
    """Return a text without keys of a provider, signed tokens, and the user of a URL."""
    for value in values:
        plain = value.replace("\\n", "\n")
        for form in (value, quote(value, safe=""), plain, *plain.splitlines()):
            if len(form.strip()) >= MIN_WORD and not form.startswith("-----"):
                text = text.replace(form, HIDDEN)
    return SIGNED.sub(HIDDEN, USER.sub(f"{HIDDEN}@", text))


def hide_password(url: str) -> str:
    """Return a URL that could not be parsed, without anything that may be a password."""
    _, at, host = url.rpartition("@")
    return f"{url.partition(':')[0]}:{HIDDEN}@{host}" if at else url


def storable(words: Sequence[str]) -> list[str]:
    """Return the words of a command that anybody who reads the database may see."""
    kept = [word for word in words if not re.match(r"^[+~]*notify\b", word)]
    bare = [PASSWORD.sub(r"\1@", word) for word in kept]
    return [re.sub(r"([?&])(?:ssl)?password=[^&\s'\"]*&?", r"\1", word) for word in bare]


def _typed(words: Sequence[str]) -> Iterator[str]:
    """Yield the secrets among the values of a command."""
    for word in words:
        key, _, value = word.partition("=")
        if NOTIFY.match(key) or SECRET_KEY.search(key):
            for part in APART.split(value):
                scheme, mark, rest = part.partition("://")
                secret = rest if mark else scheme
                if len(secret) >= MIN_WORD:
                    yield secret
        elif key.startswith("database") and (bare := BARE_PASSWORD.match(value.strip("'\""))):
            yield bare[1]


def _of_environment() -> Iterator[str]:
    """Yield the secrets of the environment, which a configuration or a library may put into a text."""
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name):
            yield from (part for part in value.split() if len(part) >= MIN_VARIABLE)
