"""Faults of a PostgreSQL server alone: far away, closed to this user, gone in between."""

import sys
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import text

from optimize.database import open_engine, reading, study_lock
from optimize.errors import BadInputError, WalkforgeError
from tests.postgres import PASSWORD, Server, free_port

pytestmark = pytest.mark.postgres


@pytest.fixture
def admin(postgres_server: Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as conn:
        yield conn


def refusal(url: str, read_only: bool = False) -> str:
    with pytest.raises(BadInputError) as caught:
        open_engine(url, read_only)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_a_server_that_cannot_be_reached_is_refused_with_a_remedy(postgres_server: Server) -> None:
    url = postgres_server.url("postgres")
    port = f":{postgres_server.port}/"
    cases = {
        postgres_server.url("nowhere"): "create it with createdb nowhere",
        postgres_server.url("postgres", "wrong"): "set the right password in PGPASSWORD",
        url.replace(f":{PASSWORD}", ""): "set the password in PGPASSWORD",
        url.replace(port, f":{free_port()}/"): "start the server, or mend host and port",
        url.replace("127.0.0.1", "no.host.invalid"): "mend the host's name",
        f"{url}?nonsense=1": "options of libpq",
    }
    for bad, remedy in cases.items():
        for read_only in (True, False):
            assert remedy in refusal(bad, read_only)
    with (
        pytest.raises(BadInputError, match="createdb nowhere"),
        study_lock(postgres_server.url("nowhere"), "a"),
    ):
        pass


def test_a_password_may_come_from_the_environment(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_engine(postgres.replace(f":{PASSWORD}", "")).dispose()


def test_a_database_in_another_encoding_is_refused(
    postgres_server: Server, admin: psycopg.Connection
) -> None:
    admin.execute(
        "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    )
    try:
        assert "create one in UTF8" in refusal(postgres_server.url("ascii"))
    finally:
        admin.execute("DROP DATABASE ascii WITH (FORCE)")


def test_a_user_who_may_not_create_tables_is_refused_and_may_read(
    postgres: str, admin: psycopg.Connection
) -> None:
    user = f"poor_{uuid.uuid4().hex[:8]}"
    admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'".encode())
    try:
        poor = postgres.replace("walker:", f"{user}:")
        assert f"{user} may not create tables in the schema public" in refusal(poor)
        open_engine(poor, read_only=True).dispose()
    finally:
        admin.execute(f"DROP ROLE {user}".encode())


def test_without_the_driver_the_way_to_get_it_is_named(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install -c constraints.txt -e '.[postgres]'" in refusal(postgres)
    with pytest.raises(BadInputError, match="pip install"), study_lock(postgres, "other driver"):
        pass


def test_a_read_only_engine_reads_and_cannot_write(postgres: str) -> None:
    writer, reader = open_engine(postgres), open_engine(postgres, read_only=True)
    with writer.begin() as conn:
        conn.execute(text("CREATE TABLE wf_a (x INTEGER)"))
        conn.execute(text("INSERT INTO wf_a VALUES (3)"))
    for read in (reader.connect(), reading(writer)):
        with read as conn:
            assert conn.execute(text("SELECT x FROM wf_a")).scalar() == 3
            with pytest.raises(sqlalchemy.exc.DBAPIError, match="read-only transaction"):
                conn.execute(text("INSERT INTO wf_a VALUES (4)"))
    with writer.begin() as conn:  # reading() refuses writes within its block alone
        conn.execute(text("INSERT INTO wf_a VALUES (4)"))
    reader.dispose()
    writer.dispose()


def test_locks_of_two_studies_and_of_two_databases_are_apart(postgres: str, postgres_server: Server) -> None:
    outcome = []

    def take_both() -> None:
        with study_lock(postgres, "b", timeout_s=2), study_lock(postgres_server.url("postgres"), "a", 2):
            outcome.append("taken")

    with study_lock(postgres, "a"):
        thread = threading.Thread(target=take_both)
        thread.start()
        thread.join()
    assert outcome == ["taken"]


def test_a_lock_that_broke_is_no_lock(postgres: str, admin: psycopg.Connection) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    with (
        pytest.raises(WalkforgeError, match=r"the connection that held the lock of study a broke"),
        study_lock(postgres, "a"),
    ):
        admin.execute(end)
    with study_lock(postgres, "a", timeout_s=2):
        pass


def test_an_engine_survives_a_connection_that_ended_while_it_was_idle(
    postgres: str, admin: psycopg.Connection
) -> None:
    engine = open_engine(postgres)
    database = engine.url.database
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    assert admin.execute(end, [database]).fetchall() == [(True,)]
    with engine.connect() as conn:
        assert conn.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_a_writer_that_stands_still_gives_its_locks_back(postgres: str) -> None:
    engine, slow = open_engine(postgres), open_engine(postgres, busy_timeout_s=0.3)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE wf_a (x INTEGER)"))
        conn.execute(text("INSERT INTO wf_a VALUES (3)"))
    with slow.connect() as held:
        held.execute(text("UPDATE wf_a SET x = 4"))
        with engine.begin() as conn:
            conn.execute(text("UPDATE wf_a SET x = x + 10"))  # waits until the server gave up on the other
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="idle-in-transaction timeout"):
            held.execute(text("UPDATE wf_a SET x = 5"))
    with engine.connect() as conn:
        assert conn.execute(text("SELECT x FROM wf_a")).scalar() == 13
    slow.dispose()
    engine.dispose()
