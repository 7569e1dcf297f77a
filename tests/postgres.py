"""A real PostgreSQL server for the tests: its own folder, port and password, gone when pytest is."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

USER, PASSWORD = "walker", "not-to-be-seen"
START_TIMEOUT_S = 60.0
SETTINGS = {
    "fsync": "off",  # the data lives as long as the tests
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "80",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
}
# The server ends when its input does: with pytest, however that dies. Its folder goes with it.
KEEPER = """
"$1" -D "$2/data" "${@:3}" >"$2/log" 2>&1 </dev/null &
server=$!
trap '' INT TERM
read -r _
kill -QUIT "$server"
wait "$server"
rm -rf "$2"
"""


@dataclass(frozen=True)
class Server:
    """A running server, reached by password on a loopback port."""

    port: int
    binaries: Path

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def psql(self, database: str, *arguments: str) -> str:
        """Run psql without the settings of this user and return its output."""
        return self._run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments)

    def dump(self, database: str) -> str:
        """Return everything that a database holds, as text."""
        return self._run("pg_dump", "--inserts", database)

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(self.binaries / program), *arguments]
        place = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | place)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def find_binaries() -> Path | None:
    """Return the folder of the newest installed server, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def run_server(binaries: Path) -> Iterator[Server]:
    """Start a server in a new folder and end it, also after an exception."""
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="walkforge-postgres-"))
    port = free_port()
    try:
        if user is not None:
            shutil.chown(folder, user)
        make_cluster(binaries, folder, user)
    except BaseException:
        shutil.rmtree(folder)
        raise
    options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command = ["bash", "-c", KEEPER, "keeper", str(binaries / "postgres"), str(folder)]
    command += ["-p", str(port), "-k", str(folder), *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, user=user, start_new_session=True, cwd="/"
    ) as keeper:
        try:
            server = Server(port, binaries)
            until_ready(server, folder)
            yield server
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            keeper.wait(60)


def make_cluster(binaries: Path, folder: Path, user: str | None) -> None:
    """Create the server's data; its order of text is that of a language, as a user's often is."""
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if user is not None:
        shutil.chown(secret, user)
    language = ["--encoding=UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US"]
    login = [f"--username={USER}", f"--pwfile={secret}", "--auth=scram-sha-256"]
    subprocess.run(
        [str(binaries / "initdb"), f"--pgdata={folder / 'data'}", "--no-sync", *login, *language],
        check=True, capture_output=True, user=user, cwd="/",
    )  # fmt: skip
    secret.unlink()


def until_ready(server: Server, folder: Path) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.psql("postgres", "-c", "SELECT 1")
            return
        except AssertionError:
            if time.monotonic() > deadline:
                print((folder / "log").read_text(), file=sys.stderr)
                raise
            time.sleep(0.1)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Yield the one server of all tests, or skip where none is installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    with run_server(binaries) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[str]:
    """Yield the URL of a new, empty database; mark tests that use it with `postgres`."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as conn:
        # The default way of version 15 writes the whole template through the log, four times as slow.
        strategy = "STRATEGY FILE_COPY" if conn.info.server_version >= 150000 else ""
        conn.execute(f"CREATE DATABASE {name} {strategy}".encode())
        yield postgres_server.url(name)
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.slow])])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new database, of each kind in turn; PostgreSQL is of the full tier."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'walkforge.db'}"
    return str(request.getfixturevalue("postgres"))
