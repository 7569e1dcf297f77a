"""Who runs a trial now: leases with a fencing token, renewed while the run lives.

Times are seconds since the epoch by `database.server_time`. Call every function inside a transaction
(`with engine.begin()`): each writes the lease before it reads or writes anything else about the trial.
From that statement to the commit SQLite holds the database's write lock, and PostgreSQL the lock of that one
row; whoever writes about the same trial waits for it and then sees what was committed, because each statement
looks afresh (READ COMMITTED). Leases are always locked first, so two writers never wait for each other.
"""

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, RowMapping, case, delete, select, update

from optimize.errors import BadInputError, StaleRunError
from optimize.results.tables import LEASES, RUNS, insert_into

# psutil derives a start time from the boot time, which steps with the wall clock; no pid is reused this fast.
START_TOLERANCE_S = 2.0
ABANDONED_AT = 0.0


@dataclass(frozen=True)
class Lease:
    """The right of one run to write about one trial."""

    study_name: str
    trial_number: int
    run_uuid: str
    token: int  # grows with every take-over
    host: str
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
        "host": socket.gethostname(),
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
    conn.execute(first.on_conflict_do_update(index_elements=keys, set_=taken))
    refuse_other_hosts(conn, now)
    _mark_lost(conn, study, number, "the lease was lost")
    return _lease(conn.execute(select(LEASES).where(_of_trial(study, number))).one()._mapping)


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


def release(conn: Connection, lease: Lease) -> None:
    """End a lease, kept or given back, after its trial was told; leave it alone once another run has it."""
    same = (LEASES.c.run_uuid == lease.run_uuid) & (LEASES.c.token == lease.token)
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
    elsewhere = select(LEASES).where(LEASES.c.host != here, LEASES.c.renewed_at + LEASES.c.lease_s >= now)
    other = conn.execute(elsewhere.order_by(LEASES.c.renewed_at.desc()).limit(1)).mappings().first()
    if other is not None:
        rest = other["renewed_at"] + other["lease_s"] - now
        raise BadInputError(
            f"database.url: host {other['host']!r} works on study {other['study_name']!r} in this SQLite "
            f"file, and this is host {here!r}: SQLite serves one host, so use database=postgresql for "
            f"several, or end the study there and wait {rest:.0f} s"
        )


def owner_alive(lease: Lease) -> bool:
    """Say whether the process that took the lease still runs; one on another host is believed to."""
    if lease.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(lease.pid)
        same = abs(process.create_time() - lease.process_started) <= START_TOLERANCE_S
        return bool(same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


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
