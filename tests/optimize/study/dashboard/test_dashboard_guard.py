"""The dashboard over real HTTP: read-only, refused to unknown host names, changed only with a token."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from optimize.errors import BadInputError
from optimize.study.dashboard.guard import Access, access, address_of, guard_app
from optimize.study.dashboard.serve import DashboardServer, QuietHandler

WRITES = ("POST", "PUT", "PATCH", "DELETE", "PURGE")


def application(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
    start("204 No Content" if environ["REQUEST_METHOD"] == "DELETE" else "200 OK", [])
    return []


@contextmanager
def served(allowed: Access) -> Iterator[int]:
    app = guard_app(application, allowed)
    with make_server("127.0.0.1", 0, app, DashboardServer, QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, method: str, path: str = "/api/studies/1", **headers: str
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode(), dict(reply.getheaders())
    finally:
        connection.close()


def test_it_is_read_only_by_default() -> None:
    with served(access("127.0.0.1", [], write=False)) as port:
        assert ask(port, "GET")[0] == 200
        for method in WRITES:
            status, text, _ = ask(port, method)
            assert status == 403
            assert text == "the dashboard is read-only: start it with write=true to change studies\n"
        assert ask(port, "DELETE", "/api/studies/1?token=")[0] == 403
        assert ask(port, "DELETE", Cookie="walkforge_token=None")[0] == 403


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[", "0.0.0.0"]
)
def test_a_foreign_host_name_is_refused(name: str) -> None:
    with served(access("127.0.0.1", ["lab.example"], write=True)) as port:
        status, text, _ = ask(port, "GET", Host=name)
        assert status == 403
        assert "does not answer to the host name" in text


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.0.0.2", "[::1]:8080", "lab.example:80"]
)
def test_names_of_this_machine_and_those_given_are_answered(name: str) -> None:
    with served(access("127.0.0.1", ["lab.example"], write=False)) as port:
        assert ask(port, "GET", Host=name)[0] == 200


def test_a_server_for_every_address_answers_to_addresses_and_no_names() -> None:
    with served(access("0.0.0.0", [], write=False)) as port:
        assert ask(port, "GET", Host="192.168.1.7:8080")[0] == 200
        assert ask(port, "GET", Host="evil.example")[0] == 403


def test_a_token_opens_writing_for_one_browser() -> None:
    allowed = access("127.0.0.1", [], write=True)
    assert allowed.token is not None
    assert allowed.token not in repr(allowed)
    with served(allowed) as port:
        assert ask(port, "DELETE")[0] == 403
        assert ask(port, "DELETE", Cookie="walkforge_token=guess")[0] == 403
        path = address_of("127.0.0.1", port, "/dashboard/studies/1", allowed).partition(str(port))[2]
        status, _, headers = ask(port, "GET", path)
        assert (status, headers["Location"]) == (303, "/dashboard/studies/1")
        assert "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert ask(port, "DELETE", Cookie=cookie)[0] == 204
        own, foreign = f"http://127.0.0.1:{port}", "http://evil.example"
        assert ask(port, "DELETE", Cookie=cookie, Origin=own)[0] == 204
        assert ask(port, "DELETE", Cookie=cookie, Origin=foreign)[0] == 403
        assert ask(port, "GET", "//evil.example/?token=" + allowed.token)[2]["Location"] == "/evil.example/"


@pytest.mark.parametrize("name", ["", "http://lab.example", "*", "a b"])
def test_a_name_that_no_browser_shows_is_bad_input(name: str) -> None:
    with pytest.raises(BadInputError, match="hosts="):
        access("127.0.0.1", [name], write=False)
