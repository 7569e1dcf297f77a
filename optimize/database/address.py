"""Database URLs: parsing, and forms without a password for messages, commands and records."""

import shlex
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from optimize.errors import BadInputError, require
from optimize.secrets import hide_password

EXAMPLES = "sqlite:///path/to/file.db or postgresql://user@host/dbname"
DRIVER = "postgresql+psycopg"
SECRETS = {"password", "sslpassword"}
# The URLs of conf/database, with the word that chooses each.
DEFAULTS = {
    "sqlite:///databases/walkforge.db": "",
    "postgresql://localhost/walkforge": " database=postgresql",
}
QUOTED = " =,{}[]()'\""  # Hydra reads a value with one of these only in quotes


def parse_url(url: str) -> URL:
    """Return a URL that can be opened, with the driver named; BadInputError for any other."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a ValueError: the port is not a number
        given = hide_password(url)
        raise BadInputError(f"database.url={given!r} is not a database URL: write {EXAMPLES}") from None
    name, _, driver = parsed.drivername.partition("+")
    if name == "sqlite":
        return parsed
    if name not in ("postgresql", "postgres") or driver not in ("", "psycopg"):
        raise BadInputError(
            f"database.url={hide_password(url)!r} is not supported: write {EXAMPLES} (driver psycopg)"
        )
    return _checked(parsed).set(drivername=DRIVER)


def without_password(url: str) -> str:
    """Return the URL without its password, for storing; libpq may still find the password by itself."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return hide_password(url)
    if parsed.password is None and not SECRETS & parsed.query.keys():
        return url
    query = {key: value for key, value in parsed.query.items() if key not in SECRETS}
    bare = URL.create(
        parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database, query
    )
    return bare.render_as_string(hide_password=False)


def url_text(url: URL) -> str:
    """Return the URL for a message, the driver's name and the password left out."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def in_words(url: str | URL) -> str:
    """Return the argument that names this database in a command, without its password; empty by default."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return ""  # opening it raises the error
    if parsed.get_backend_name() == "sqlite":
        path, here = Path(parsed.database or "").expanduser().resolve(), Path.cwd()
        given = f"sqlite:///{path.relative_to(here) if path.is_relative_to(here) else path}"
    else:
        bare = without_password(parsed.render_as_string(hide_password=False))
        given = make_url(bare).set(drivername="postgresql").render_as_string(hide_password=False)
    if given in DEFAULTS:
        return DEFAULTS[given]
    return f" {shlex.quote(f'database.url={quote_for_hydra(given)}')}"


def quote_for_hydra(value: str) -> str:
    """Return a value as Hydra reads it: in quotes where it holds a character of Hydra's grammar."""
    return f'"{value}"' if set(value) & set(QUOTED) else value


def _checked(url: URL) -> URL:
    """Refuse a URL that PostgreSQL would misread, without showing a misplaced password."""
    if "@" in (url.host or ""):
        raise BadInputError(
            "database.url: a password with special characters must be percent-encoded (@ as %40), "
            "or be given in PGPASSWORD instead of the URL"
        )
    if secrets := sorted(SECRETS & url.query.keys()):
        raise BadInputError(
            f"database.url: the option {secrets[0]} may not stand behind the ?: set PGPASSWORD, or write "
            "postgresql://user:password@host/dbname"
        )
    require(
        bool(url.database),
        "database.url",
        url_text(url),
        "postgresql://user@host/dbname: name the database",
    )
    # Optuna fills its storage URL in with str.format, so a brace would be read as a field.
    rendered = url.render_as_string(hide_password=True)
    require(not {"{", "}"} & set(rendered), "database.url", url_text(url), "a URL without braces")
    return url
