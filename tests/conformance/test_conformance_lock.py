"""Guarantees of the study lock, on every database."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from optimize.database import open_engine, schema_lock, server_time, study_lock
from optimize.errors import WalkforgeError

NAME = "btc.model"
CONTEXT = multiprocessing.get_context("spawn")
PROCESSES, ROUNDS = 3, 15


def hold(url: str, held: "multiprocessing.synchronize.Event") -> None:
    with study_lock(url, NAME):
        held.set()
        signal.pause()


def count_up(url: str, counter: Path) -> None:
    """Read, wait and write: only a lock keeps every step of every process."""
    for _ in range(ROUNDS):
        with study_lock(url, NAME):
            count = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(count + 1))


@contextmanager
def holder(url: str) -> Iterator[SpawnProcess]:
    """Run another process that holds the lock."""
    held = CONTEXT.Event()
    process = CONTEXT.Process(target=hold, args=(url, held))
    process.start()
    try:
        assert held.wait(300)
        yield process
    finally:
        process.kill()
        process.join()


def outcome_in_thread(url: str, name: str) -> str:
    outcome = []

    def try_lock() -> None:
        try:
            with study_lock(url, name, timeout_s=0.1):
                outcome.append("taken")
        except WalkforgeError:
            outcome.append("refused")

    thread = threading.Thread(target=try_lock)
    thread.start()
    thread.join()
    return outcome[0]


def test_the_lock_is_re_entrant_and_excludes_threads(database_url: str) -> None:
    with study_lock(database_url, NAME):
        with study_lock(database_url, NAME):
            assert outcome_in_thread(database_url, NAME) == "refused"
        assert outcome_in_thread(database_url, NAME) == "refused"
    assert outcome_in_thread(database_url, NAME) == "taken"


def test_an_error_inside_frees_the_lock(database_url: str) -> None:
    with pytest.raises(ZeroDivisionError), study_lock(database_url, NAME):
        raise ZeroDivisionError
    with study_lock(database_url, NAME, timeout_s=0.1):
        pass


def test_the_schema_is_locked_inside_a_study(database_url: str) -> None:
    with study_lock(database_url, NAME), schema_lock(database_url, timeout_s=1.0):
        pass


@pytest.mark.slow
def test_processes_take_turns(database_url: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    workers = [CONTEXT.Process(target=count_up, args=(database_url, counter)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert int(counter.read_text()) == PROCESSES * ROUNDS


def test_waiting_for_another_process_has_an_end(database_url: str) -> None:
    with holder(database_url):
        started = time.monotonic()
        with (
            pytest.raises(
                WalkforgeError, match=rf"lock of study '?{NAME}.*held by another process"
            ) as caught,
            study_lock(database_url, NAME, timeout_s=0.3),
        ):
            pass
        assert time.monotonic() - started > 0.25
        assert "\n" not in str(caught.value)


def test_a_killed_holder_frees_the_lock(database_url: str) -> None:
    with holder(database_url) as process:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with study_lock(database_url, NAME, timeout_s=30):
            pass


def test_the_clock_of_leases_is_in_seconds_and_goes_on_within_a_transaction(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as conn:
        first = server_time(conn)
        assert abs(first - time.time()) < 30  # the servers of tests run on this machine
        time.sleep(0.01)
        assert server_time(conn) > first
    engine.dispose()
