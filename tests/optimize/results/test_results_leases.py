import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from optimize.database import open_engine
from optimize.errors import BadInputError, StaleRunError
from optimize.results.leases import (
    Lease,
    abandon,
    acquire,
    active,
    awaits_supervisor,
    check_token,
    count_loss,
    forget_losses,
    is_future,
    is_lost,
    lost,
    owner_alive,
    pull_back,
    refuse_other_hosts,
    release,
    renew,
)
from optimize.results.processes import START_TOLERANCE_S, Identity, identity, process_alive, this_host
from optimize.results.runs import load_run, start_run
from tests.optimize.results.factories import STUDY, make_run, take

_HOLDER = """
import sys, time
from optimize.database import open_engine
from optimize.results.leases import acquire
engine = open_engine(sys.argv[1])
with engine.begin() as conn:
    acquire(conn, sys.argv[2], 0, worker=3, lease_s=1e9, now=time.time())
print("held", flush=True)
sys.stdin.read()  # until it is killed
"""


@contextmanager
def closing_engine(engine: Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.dispose()


@pytest.fixture
def holder(url: str, engine: Engine) -> Iterator[subprocess.Popen[str]]:
    """Yield another process that holds trial 0 under a lease that never expires."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, url, STUDY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_new_run_gets_the_first_token_and_the_identity_of_its_process(engine: Engine) -> None:
    lease = take(engine, now=1000.0)
    assert (lease.token, lease.losses, lease.renewed_at, lease.window) == (1, 0, 1000.0, None)
    assert lease.pid == os.getpid()
    assert owner_alive(lease)
    with engine.connect() as conn:
        assert active(conn, STUDY) == [lease]
        assert active(conn, "other") == []


def test_a_take_over_fences_the_old_run_off_and_counts_nothing_by_itself(engine: Engine) -> None:
    old = take(engine)
    with engine.begin() as conn:
        start_run(conn, old, make_run(old))
    new = take(engine, now=2000.0)
    assert new.run_uuid != old.run_uuid
    assert (new.token, new.losses) == (2, 0)
    with engine.begin() as conn:
        with pytest.raises(StaleRunError):
            renew(conn, old, 2001.0)
        release(conn, old)  # must not free the new run's trial
        abandon(conn, old)
        assert active(conn, STUDY) == [new]
        run = load_run(conn, old.run_uuid)
        assert run is not None
        assert run.state == "LOST"
    assert take(engine, now=3000.0).losses == 0


def test_renewing_moves_the_expiry_and_says_which_window_runs(engine: Engine) -> None:
    lease = take(engine, now=1000.0)  # for 60 s
    with engine.begin() as conn:
        elsewhere = replace(lease, host="elsewhere#1")
        assert not is_lost(elsewhere, 1060.0, owner_alive)
        assert is_lost(elsewhere, 1060.5, owner_alive)
        renewed = renew(conn, lease, 1050.0, window=2)
        assert (renewed.renewed_at, renewed.window, renewed.token) == (1050.0, 2, 1)
        assert lost(conn, STUDY, 1100.0, lambda _: True) == []
        assert lost(conn, STUDY, 1100.0, lambda _: False) == [renewed]


def test_an_abandoned_trial_is_free_at_once_and_counts_no_loss(engine: Engine) -> None:
    lease = take(engine, now=1000.0)
    with engine.begin() as conn:
        abandon(conn, lease)
        (freed,) = lost(conn, STUDY, 1000.0, lambda _: True)
        assert freed.abandoned
        with pytest.raises(StaleRunError):
            renew(conn, lease, 1001.0)
    new = take(engine, now=1002.0)
    assert (new.token, new.losses, new.abandoned) == (2, 0, False)


def test_an_abandoned_lease_can_be_released_once_its_trial_is_told(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        abandon(conn, lease)
        release(conn, lost(conn, STUDY, 1000.0, lambda _: True)[0])
        assert active(conn, STUDY) == []


def test_a_killed_process_loses_its_lease_before_it_expires(
    engine: Engine, holder: subprocess.Popen[str]
) -> None:
    with engine.connect() as conn:
        (lease,) = active(conn, STUDY)
        assert lease.pid == holder.pid
        assert lost(conn, STUDY, time.time(), owner_alive) == []
        os.kill(holder.pid, signal.SIGKILL)
        deadline = time.monotonic() + 300
        while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:  # nobody waited for it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert lost(conn, STUDY, time.time(), owner_alive) == [lease]
        holder.wait(300)
        assert lost(conn, STUDY, time.time(), owner_alive) == [lease]
    assert take(engine, now=time.time()).losses == 0


def test_no_clock_takes_a_trial_from_a_process_that_lives_on_this_machine(engine: Engine) -> None:
    lease = take(engine, now=1000.0)
    with engine.connect() as conn:
        assert lost(conn, STUDY, 1e9, owner_alive) == []
    moved = replace(lease, process_started=psutil.Process().create_time() + 3600)  # as older versions stored
    assert not owner_alive(moved)
    assert owner_alive(replace(moved, process_started=psutil.Process().create_time()))


def test_a_process_that_stands_still_loses_its_trial_once_its_lease_expires(engine: Engine) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = identity(process.pid).started
        lease = replace(take(engine, now=1000.0), pid=process.pid, process_started=started)
        assert not is_lost(lease, 1060.5, owner_alive)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert not is_lost(lease, 1060.0, owner_alive)
        assert is_lost(lease, 1060.5, owner_alive)
        process.kill()


@pytest.mark.parametrize(
    ("change", "waits"),
    [
        ({}, True),
        ({"pid": os.getpid(), "process_started": identity().started}, False),  # its worker lives
        ({"supervisor_pid": None}, False),
        ({"supervisor_pid": 1 << 30}, False),
        ({"supervisor_started": 0.0}, False),
        ({"host": "elsewhere#1"}, False),
        ({"renewed_at": 0.0}, False),
        ({"renewed_at": 900.0}, False),  # it expired: its supervisor had time to decide
    ],
)
def test_the_death_of_a_worker_is_judged_by_its_living_supervisor(
    engine: Engine, change: dict[str, object], waits: bool
) -> None:
    with engine.begin() as conn:
        lease = acquire(conn, STUDY, 0, worker=0, lease_s=60.0, now=1000.0, supervisor=identity())
    values: dict[str, object] = {"pid": 1 << 30, **change}
    dead: Lease = replace(lease, **values)  # type: ignore[arg-type]  # by their names
    assert awaits_supervisor(dead, 1010.0) is waits


def test_losses_count_within_one_window_alone(engine: Engine) -> None:
    for expected in (1, 2):
        lease = take(engine)
        with engine.begin() as conn:
            count_loss(conn, lease)
            count_loss(conn, lease)  # given back by then
            (given,) = active(conn, STUDY)
        assert (given.losses, given.abandoned) == (expected, True)
    lease = take(engine)
    assert lease.losses == 2
    with engine.begin() as conn:
        forget_losses(conn, lease)
        assert active(conn, STUDY)[0].losses == 0


def test_a_lease_renewed_in_the_future_is_counted_as_renewed_now(engine: Engine) -> None:
    lease = take(engine, now=5000.0)
    assert is_future(lease, 1000.0)
    with engine.begin() as conn:
        pull_back(conn, 4999.0)
        assert active(conn, STUDY) == [lease]
        pull_back(conn, 1000.0, "another")
        assert active(conn, STUDY) == [lease]
        pull_back(conn, 1000.0, STUDY)
        assert active(conn, STUDY) == [replace(lease, renewed_at=1000.0)]


def test_leases_of_an_older_version_are_read_without_the_newer_columns(engine: Engine) -> None:
    lease = take(engine)
    with engine.begin() as conn:
        for column in ("supervisor_pid", "supervisor_started"):
            conn.execute(text(f"ALTER TABLE wf_leases DROP COLUMN {column}"))
    engine.dispose()
    older = open_engine(engine.url.render_as_string(hide_password=False), read_only=True)
    with closing_engine(older), older.connect() as conn:
        assert active(conn, STUDY) == [lease]


def test_a_process_is_told_apart_from_a_later_one_with_its_number() -> None:
    me = identity()
    host = this_host()
    assert process_alive(host, me.pid, me.started)
    assert not process_alive(host, me.pid, me.started + 2 * START_TOLERANCE_S)
    assert me == Identity(os.getpid(), identity(os.getpid()).started)


def test_a_reused_pid_is_not_the_owner_and_another_host_is_believed(engine: Engine) -> None:
    lease = take(engine)
    assert not owner_alive(replace(lease, process_started=lease.process_started - 2 * START_TOLERANCE_S))
    assert owner_alive(replace(lease, host="elsewhere.invalid", pid=1 << 30))
    assert not owner_alive(replace(lease, pid=1 << 30))


def test_a_checked_token_holds_until_the_write_is_committed(engine: Engine, url: str) -> None:
    lease = take(engine)
    rival = open_engine(url, busy_timeout_s=0.05)
    refused = pytest.raises(OperationalError, match=r"database is locked|lock timeout")
    with closing_engine(rival), engine.begin() as conn:
        check_token(conn, STUDY, 0, lease.run_uuid, lease.token)
        with refused, rival.begin() as other:
            acquire(other, STUDY, 0, worker=1, lease_s=60.0, now=2000.0)
    with engine.connect() as conn:
        assert active(conn, STUDY) == [lease]


def test_a_sqlite_file_serves_one_host_and_a_server_many(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "north")
    lease = take(engine, 0, now=1000.0)
    monkeypatch.setattr(socket, "gethostname", lambda: "south")
    for now, recent in ((1000.0, True), (1060.0, True), (1060.5, False)):
        refused = recent and engine.dialect.name == "sqlite"
        for use in (
            lambda conn, now=now: refuse_other_hosts(conn, now),
            lambda conn, now=now: acquire(conn, "eth.model", 0, worker=0, lease_s=60.0, now=now),
        ):
            with engine.connect() as conn:  # rolled back
                if not refused:
                    use(conn)
                    continue
                words = "'north' works on study 'btc.model'.*'south'.*database=postgresql.*wait"
                with pytest.raises(BadInputError, match=words) as caught:
                    use(conn)
                assert "\n" not in str(caught.value)
    with engine.begin() as conn:
        abandon(conn, lease)
        refuse_other_hosts(conn, 1000.0)


@pytest.mark.parametrize(
    "change", [{"token": 2}, {"run_uuid": "x"}, {"study_name": "x"}, {"trial_number": 1}]
)
def test_a_token_is_good_for_one_run_of_one_trial(engine: Engine, change: dict[str, object]) -> None:
    lease: Lease = replace(take(engine), **change)  # type: ignore[arg-type]  # one field at a time
    with engine.begin() as conn, pytest.raises(StaleRunError):
        check_token(conn, lease.study_name, lease.trial_number, lease.run_uuid, lease.token)
