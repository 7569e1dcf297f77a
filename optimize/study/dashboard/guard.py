"""Access control of optuna-dashboard: allowed host names, and a token for changes."""

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from optimize.errors import require

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

COOKIE = "walkforge_token"
TOKEN = "token"
READING = {"GET", "HEAD", "OPTIONS"}
EVERYWHERE = ("", "0.0.0.0", "::")  # listening on these serves every address of the machine
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """Access rules of the dashboard."""

    hosts: tuple[str, ...] = ()  # allowed host names, beside the loopback names
    token: str | None = field(default=None, repr=False)  # required for changes; None: read-only
    addresses: bool = False  # whether any IP address is allowed as host, which DNS rebinding cannot use


def access(host: str, hosts: Iterable[str], write: bool) -> Access:
    """Return the access rules of a dashboard that listens on a host."""
    for name in hosts:
        valid = bool(name) and not set(name) & set("/@ *")
        require(valid, "hosts", name, "names or addresses as a browser shows them, such as lab.example")
    token = secrets.token_urlsafe(24) if write else None
    everywhere = host in EVERYWHERE
    return Access((*(() if everywhere else (host,)), *hosts), token, addresses=everywhere)


def guard_app(app: "WSGIApplication", allowed: Access) -> "WSGIApplication":
    """Return an application that refuses unknown host names, and changes without the token.

    Otherwise a web page whose host name resolves to this machine could read and change every study.
    """
    names = {name.lower() for name in (*LOOPBACK, *allowed.hosts)}

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        given = host_of(environ.get("HTTP_HOST", ""))
        if not (given in names or is_loopback(given) or (allowed.addresses and is_address(given))):
            line = f"the dashboard does not answer to the host name {given!r}: add it with hosts=[{given}]"
            return _refuse(start, HTTPStatus.FORBIDDEN, line)
        offered = parse_qs(environ.get("QUERY_STRING", "")).get(TOKEN, [""])[0]
        if offered and _matches(offered, allowed):
            return _welcome(environ, start, offered)
        if environ["REQUEST_METHOD"] in READING:
            return app(environ, start)
        if allowed.token is None:
            line = "the dashboard is read-only: start it with write=true to change studies"
            return _refuse(start, HTTPStatus.FORBIDDEN, line)
        origin = environ.get("HTTP_ORIGIN")
        foreign = origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
        if foreign or not _matches(_cookie_of(environ), allowed):
            line = (
                "changes need the token: open the address with token=... that `walkforge dashboard` printed"
            )
            return _refuse(start, HTTPStatus.FORBIDDEN, line)
        return app(environ, start)

    return answer


def host_of(header: str) -> str:
    """Return the name in a Host header without its port; "" if it is invalid."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(host: str, port: int, page: str, allowed: Access) -> str:
    """Return the address to open, with the token if changes are allowed."""
    shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    query = "" if allowed.token is None else "?" + urlencode({TOKEN: allowed.token})
    return f"http://{shown}:{port}{page}{query}"


def _matches(offered: str, allowed: Access) -> bool:
    return allowed.token is not None and secrets.compare_digest(offered.encode(), allowed.token.encode())


def _cookie_of(environ: "WSGIEnvironment") -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _welcome(environ: "WSGIEnvironment", start: "StartResponse", token: str) -> Iterable[bytes]:
    """Store the token in a cookie and redirect to the page without the token in its address."""
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
    place = "/" + environ.get("PATH_INFO", "/").lstrip("/")
    start(_status(HTTPStatus.SEE_OTHER), [("Location", place), ("Set-Cookie", cookie)])
    return [b""]


def _refuse(start: "StartResponse", status: HTTPStatus, line: str) -> Iterable[bytes]:
    start(_status(status), [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{line}\n".encode()]


def _status(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
