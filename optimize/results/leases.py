"""Who runs a trial now: leases with a fencing token, renewed while the run lives.

Times are seconds since the epoch by `database.server_time`. Call every function inside a transaction
(`with engine.begin()`): each writes the lease before it reads or writes anything else about the trial.
From that statement to the commit SQLite holds the database's write lock, and PostgreSQL the lock of that one
row; whoever writes about the same trial waits for it and then sees what was committed, because each statement
looks afresh (READ COMMITTED). Leases are always locked first, so two writers never wait for each other.
"""

import functools
import hashlib
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, RowMapping, case, delete, select, update

from optimize.errors import BadInputError, StaleRunError
from optimize.results.tables import LEASES, RUNS, insert_into

# psutil derives a start time from the boot time, which steps with the wall clock; no pid is reused this fast.
START_TOLERANCE_S = 2.0
ABANDONED_AT = 0.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_SPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Lease:
    """The right of one run to write about one trial."""

    study_name: str
    trial_number: int
    run_uuid: str
    token: int  # grows with every take-over
    host: str  # of this_host
    pid: int
    process_started: float  # create time of the process, so that a reused pid is told apart
    worker: int
    renewed_at: float
    lease_s: float
    losses: int  # runs of this trial that ended without a word
    window: int | None  # the window that runs now

    @property
    def abandoned(self) -> bool:
        """Say whether its run gave the trial back in good order."""
        return self.renewed_at == ABANDONED_AT


def acquire(conn: Connection, study: str, number: int, *, worker: int, lease_s: float, now: float) -> Lease:
    """Start a new run of a trial and fence off the run that had it, which becomes LOST.

    Call it under the study lock, for a trial just asked for or one that `lost` returned.
    """
    process = psutil.Process()
    mine = {
        "run_uuid": str(uuid.uuid4()),
        "host": this_host(),
        "pid": process.pid,
        "process_started": process.create_time(),
        "worker": worker,
        "renewed_at": now,
        "lease_s": lease_s,
        "window": None,
    }
    first = insert_into(conn, LEASES).values(study_name=study, trial_number=number, token=1, losses=0, **mine)
    losses = case((LEASES.c.renewed_at == ABANDONED_AT, LEASES.c.losses), else_=LEASES.c.losses + 1)
    taken = {"token": LEASES.c.token + 1, "losses": losses, **mine}
    keys = [LEASES.c.study_name, LEASES.c.trial_number]
    claimed = first.on_conflict_do_update(index_elements=keys, set_=taken).returning(LEASES)
    lease = _lease(conn.execute(claimed).one()._mapping)
    refuse_other_hosts(conn, now)
    _mark_lost(conn, study, number, "the lease was lost")
    return lease


def renew(conn: Connection, lease: Lease, now: float, window: int | None = None) -> Lease:
    """Prolong a lease and say which window runs; raise StaleRunError if the trial is another run's."""
    values: dict[str, Any] = {"renewed_at": now, "window": window}
    renewed = conn.execute(update(LEASES).where(_held(lease)).values(**values))
    if renewed.rowcount == 0:
        raise _stale(lease.study_name, lease.trial_number, lease.run_uuid)
    return _lease(conn.execute(select(LEASES).where(_held(lease))).one()._mapping)


def check_token(conn: Connection, study: str, number: int, run_uuid: str, token: int) -> None:
    """Raise StaleRunError unless this run owns the trial, and keep it so until the transaction ends."""
    # An update that changes nothing, not a select: it takes the lock, so nobody can take the trial over
    # between this check and the write that follows.
    kept = conn.execute(update(LEASES).where(_owned(study, number, run_uuid, token)).values(token=token))
    if kept.rowcount == 0:
        raise _stale(study, number, run_uuid)


def fence(conn: Connection, lease: Lease) -> None:
    """Refuse every later write of the run that holds a lease; raise StaleRunError if another run holds it."""
    same = _of_trial(lease.study_name, lease.trial_number) & (LEASES.c.run_uuid == lease.run_uuid)
    fenced = conn.execute(update(LEASES).where(same).values(token=LEASES.c.token + 1))
    if fenced.rowcount == 0:
        raise _stale(lease.study_name, lease.trial_number, lease.run_uuid)


def release(conn: Connection, lease: Lease) -> None:
    """End a lease, kept, fenced or given back, once its trial is told; leave alone what another run has."""
    same = LEASES.c.run_uuid == lease.run_uuid  # each run has a uuid of its own
    conn.execute(delete(LEASES).where(_of_trial(lease.study_name, lease.trial_number), same))


def abandon(conn: Connection, lease: Lease) -> None:
    """Give the trial back at once, to be taken over by another run without counting a loss."""
    freed = conn.execute(update(LEASES).where(_held(lease)).values(renewed_at=ABANDONED_AT, window=None))
    if freed.rowcount:
        _mark_lost(conn, lease.study_name, lease.trial_number, "the worker was asked to stop")


def active(conn: Connection, study: str) -> list[Lease]:
    """Return every lease of a study, lost and abandoned ones included, by trial number."""
    rows = select(LEASES).where(LEASES.c.study_name == study).order_by(LEASES.c.trial_number)
    return [_lease(row) for row in conn.execute(rows).mappings()]


def lost(conn: Connection, study: str, now: float, alive: Callable[[Lease], bool]) -> list[Lease]:
    """Return the leases that expired, were abandoned, or whose owner is not alive."""
    return [
        lease
        for lease in active(conn, study)
        if lease.renewed_at + lease.lease_s < now or lease.abandoned or not alive(lease)
    ]


def refuse_other_hosts(conn: Connection, now: float) -> None:
    """Raise BadInputError where another host works on a SQLite file, whose locks do not reach that far."""
    if conn.dialect.name != "sqlite":
        return
    here = socket.gethostname()
    held = select(LEASES).where(LEASES.c.renewed_at + LEASES.c.lease_s >= now)
    rows = conn.execute(held.order_by(LEASES.c.renewed_at.desc())).mappings()
    other = next((row for row in rows if host_name(row["host"]) != here), None)
    if other is not None:
        rest = other["renewed_at"] + other["lease_s"] - now
        raise BadInputError(
            f"database.url: host {host_name(other['host'])!r} works on study {other['study_name']!r} in this "
            f"SQLite file, and this is host {here!r}: SQLite serves one host, so use database=postgresql for "
            f"several, or end the study there and wait {rest:.0f} s"
        )


def this_host() -> str:
    """Return what tells apart the places whose process ids mean different processes: NAME#MARK."""
    mark = _place()
    return f"{socket.gethostname()}#{mark}" if mark else socket.gethostname()


def host_name(host: str) -> str:
    """Return the name of a host as people know it."""
    return host.partition("#")[0]


def owner_alive(lease: Lease) -> bool:
    """Say whether the process that took the lease still runs; one on another host is believed to."""
    return process_alive(lease.host, lease.pid, lease.process_started)


def process_alive(host: str, pid: int, started: float) -> bool:
    """Say whether this very process still runs; one on another host is believed to."""
    if host != this_host():
        return True
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) <= START_TOLERANCE_S
        return bool(same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@functools.cache
def _place() -> str:
    """Return a mark of this boot of the machine and this space of process ids; "" where neither is known.

    Two containers on one machine, or the pods of hostNetwork on two, can bear the same host name.
    """
    try:
        boot, processes = BOOT_ID.read_text(encoding="ascii").strip(), str(PID_SPACE.readlink())
    except OSError:  # no Linux: one boot, one space of process ids
        return ""
    return hashlib.sha256(f"{boot} {processes}".encode()).hexdigest()[:8]


def _mark_lost(conn: Connection, study: str, number: int, reason: str) -> None:
    """Close the book on a run of this trial that never said how it ended."""
    of_trial = (RUNS.c.study_name == study, RUNS.c.trial_number == number, RUNS.c.state == "RUNNING")
    conn.execute(update(RUNS).where(*of_trial).values(state="LOST", reason=reason))


def _of_trial(study: str, number: int) -> ColumnElement[bool]:
    return (LEASES.c.study_name == study) & (LEASES.c.trial_number == number)


def _owned(study: str, number: int, run_uuid: str, token: int) -> ColumnElement[bool]:
    """Match the lease of this very run, unless it was given back."""
    this_run = (LEASES.c.run_uuid == run_uuid) & (LEASES.c.token == token)
    return _of_trial(study, number) & this_run & (LEASES.c.renewed_at != ABANDONED_AT)


def _held(lease: Lease) -> ColumnElement[bool]:
    return _owned(lease.study_name, lease.trial_number, lease.run_uuid, lease.token)


def _stale(study: str, number: int, run_uuid: str) -> StaleRunError:
    return StaleRunError(
        f"study {study!r}, trial {number}: run {run_uuid} no longer owns this trial, so it must not write; "
        "another run took it over or it was given back"
    )


def _lease(row: RowMapping) -> Lease:
    return Lease(**{field.name: row[field.name] for field in fields(Lease)})
