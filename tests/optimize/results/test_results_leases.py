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
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from optimize.database import open_engine
from optimize.errors import BadInputError, StaleRunError
from optimize.results.leases import (
    START_TOLERANCE_S,
    Lease,
    abandon,
    acquire,
    active,
    check_token,
    lost,
    owner_alive,
    refuse_other_hosts,
    release,
    renew,
)
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
time.sleep(120)
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
        [sys.executable, "-c", _HOLDER, url, STUDY], stdout=subprocess.PIPE, text=True
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


def test_a_take_over_fences_the_old_run_off_and_counts_the_loss(engine: Engine) -> None:
    old = take(engine)
    with engine.begin() as conn:
        start_run(conn, old, make_run(old))
    new = take(engine, now=2000.0)
    assert new.run_uuid != old.run_uuid
    assert (new.token, new.losses) == (2, 1)
    with engine.begin() as conn:
        with pytest.raises(StaleRunError):
            renew(conn, old, 2001.0)
        release(conn, old)  # must not free the new run's trial
        abandon(conn, old)
        assert active(conn, STUDY) == [new]
        run = load_run(conn, old.run_uuid)
        assert run is not None
        assert run.state == "LOST"
    assert take(engine, now=3000.0).losses == 2


def test_renewing_moves_the_expiry_and_says_which_window_runs(engine: Engine) -> None:
    lease = take(engine, now=1000.0)  # for 60 s
    with engine.begin() as conn:
        assert lost(conn, STUDY, 1060.0, lambda _: True) == []
        assert lost(conn, STUDY, 1060.5, lambda _: True) == [lease]
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
        deadline = time.monotonic() + 30
        while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:  # nobody waited for it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert lost(conn, STUDY, time.time(), owner_alive) == [lease]
        holder.wait(30)
        assert lost(conn, STUDY, time.time(), owner_alive) == [lease]
    assert take(engine, now=time.time()).losses == 1


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
