"""The server of optuna-dashboard on the studies of a database."""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna_dashboard import wsgi

from optimize.database import has_table, open_engine
from optimize.errors import BadInputError
from optimize.results.orphans import stored_studies
from optimize.search.spec import MODEL_PHASE, TIMEFRAME_PHASE
from optimize.search.storage import open_storage
from optimize.study.dashboard.attach import artifact_store
from optimize.study.dashboard.guard import access, address_of, guard_app, is_loopback

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class DashboardServer(ThreadingMixIn, WSGIServer):
    """A WSGI server with a thread for each request, none of which delays its end."""

    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    """Answer without a line in the log for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing; errors still come through log_error."""


def serve(
    url: str,
    output_dir: str | Path,
    host: str,
    port: int,
    name: str | None = None,
    *,
    write: bool = False,
    hosts: Sequence[str] = (),
) -> None:
    """Serve optuna-dashboard for the studies of a database until Ctrl-C; `name` opens that study's page.

    It is read-only unless `write` is set, which prints an address with a token; `hosts` are further allowed
    host names.
    """
    allowed = access(host, hosts, write)
    page = "/dashboard" if name is None else f"/dashboard/studies/{_study_id(url, name)}"
    if name is None:
        _stored_studies(url)
    storage = open_storage(url)
    try:
        app = wsgi(storage, artifact_store=artifact_store(output_dir))
        with _bind(host, port, guard_app(app, allowed)) as server:
            if not is_loopback(host):
                print(
                    f"warning: host={host} is reachable from other machines, and optuna-dashboard has no "
                    "password: anyone who reaches it can read every study",
                    file=sys.stderr,
                )
            may = "" if write else "; read-only, write=true lets you change studies"
            address = address_of(host, server.server_port, page, allowed)
            print(f"{address}   (Ctrl-C stops it){may}", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        storage.engine.dispose()


def _bind(host: str, port: int, app: "WSGIApplication") -> WSGIServer:
    try:
        return make_server(host, port, app, server_class=DashboardServer, handler_class=QuietHandler)
    except socket.gaierror as error:
        raise BadInputError(
            f"host={host!r} is not an address of this machine ({error.strerror}): use host=127.0.0.1"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise BadInputError(
                f"host={host!r} is not an address of this machine: use host=127.0.0.1"
            ) from None
        reason = "in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise BadInputError(
            f"port={port} cannot be opened on {host} ({reason}): choose another one, such as port={port + 1}"
        ) from None


def _study_id(url: str, name: str) -> int:
    """Return the id of a study, or of the last phase of a study in two phases."""
    stored = _stored_studies(url)
    for candidate in (name, f"{name}.{MODEL_PHASE}", f"{name}.{TIMEFRAME_PHASE}"):
        if candidate in stored:
            return stored[candidate]
    known = ", ".join(sorted(stored)) or "none yet"
    raise BadInputError(f"name={name!r}: this database holds no such study; it holds {known}")


def _stored_studies(url: str) -> dict[str, int]:
    """Return the id of each study, read without creating a file for a wrong URL."""
    engine = open_engine(url, read_only=True)
    try:
        if not has_table(engine, "studies"):
            raise BadInputError(
                "database.url: this database holds no studies; run a study first or set database.url"
            )
        with engine.connect() as conn:
            return stored_studies(conn)
    finally:
        engine.dispose()
