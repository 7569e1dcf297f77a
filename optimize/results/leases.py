"""Leases: the right of one run to write about a trial, with a fencing token, renewed while the run lives.

Times are seconds since the epoch by `database.server_time`. Call every function inside a transaction
(`with engine.begin()`): each writes the lease before it reads or writes anything else about the trial.
From that statement to the commit SQLite holds the database's write lock and PostgreSQL the lock of that row.
Another writer of the same trial waits for it and then reads the committed rows, because every statement has
a snapshot of its own (READ COMMITTED). Leases are always locked first, so that writers never deadlock.
"""

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, func, select, update

from optimize.errors import BadInputError, StaleRunError
from optimize.results.processes import Identity, host_name, identity, process_alive, stands_still, this_host
from optimize.results.rows import insert_into, stored_columns
from optimize.results.states import RunState
from optimize.results.tables import LEASES, RUNS

ABANDONED_AT = 0.0
FUTURE_S = 2.0  # a renewal this far ahead of the clock was stamped before the clock was set back


@dataclass(frozen=True)
class Lease:
    """The right of one run to write about one trial."""

    study_name: str
    trial_number: int
    run_uuid: str
    token: int  # grows with every take-over
    host: str  # of this_host
    pid: int
    process_started: float  # of `identity`; differs where the pid was reused
    worker: int
    renewed_at: float
    lease_s: float
    losses: int  # workers that died since the trial's last finished window
    window: int | None  # the window that runs now
    supervisor_pid: int | None = None  # None: its worker has no supervisor, or an older version wrote it
    supervisor_started: float | None = None

    @property
    def abandoned(self) -> bool:
        """Return whether its run gave the trial back."""
        return self.renewed_at == ABANDONED_AT


def acquire(
    conn: Connection,
    study: str,
    number: int,
    *,
    worker: int,
    lease_s: float,
    now: float,
    supervisor: Identity | None = None,
) -> Lease:
    """Start a new run of a trial; the run that held it is fenced and becomes LOST.

    Call it under the study lock, for a trial just asked for or one that `lost` returned.
    """
    me = identity()
    mine = {
        "run_uuid": str(uuid.uuid4()),
        "host": this_host(),
        "pid": me.pid,
        "process_started": me.started,
        "worker": worker,
        "renewed_at": now,
        "lease_s": lease_s,
        "window": None,
        "supervisor_pid": None if supervisor is None else supervisor.pid,
        "supervisor_started": None if supervisor is None else supervisor.started,
    }
    first = insert_into(conn, LEASES).values(study_name=study, trial_number=number, token=1, losses=0, **mine)
    taken = {"token": LEASES.c.token + 1, **mine}
    keys = [LEASES.c.study_name, LEASES.c.trial_number]
    claimed = first.on_conflict_do_update(index_elements=keys, set_=taken).returning(LEASES)
    lease = _lease(conn.execute(claimed).one()._mapping)
    refuse_other_hosts(conn, now)
    _mark_lost(conn, study, number, "the lease was lost")
    return lease


def renew(conn: Connection, lease: Lease, now: float, window: int | None = None) -> Lease:
    """Renew a lease and store its present window; raise StaleRunError if another run holds the trial."""
    values: dict[str, Any] = {"renewed_at": now, "window": window}
    renewed = conn.execute(update(LEASES).where(_held(lease)).values(**values))
    if renewed.rowcount == 0:
        raise _stale(lease.study_name, lease.trial_number, lease.run_uuid)
    return _lease(conn.execute(select(LEASES).where(_held(lease))).one()._mapping)


def check_token(conn: Connection, study: str, number: int, run_uuid: str, token: int) -> None:
    """Raise StaleRunError unless this run owns the trial; lock the lease until the transaction ends."""
    # An update that changes nothing instead of a select: it locks the row, so that no other run can take
    # the trial over between this check and the write that follows.
    kept = conn.execute(update(LEASES).where(_owned(study, number, run_uuid, token)).values(token=token))
    if kept.rowcount == 0:
        raise _stale(study, number, run_uuid)


def check_owned(conn: Connection, lease: Lease) -> None:
    """Raise StaleRunError unless this run owns the trial now; unlike `check_token`, it takes no lock."""
    owned = _owned(lease.study_name, lease.trial_number, lease.run_uuid, lease.token)
    if conn.execute(select(LEASES.c.token).where(owned)).first() is None:
        raise _stale(lease.study_name, lease.trial_number, lease.run_uuid)


def fence(conn: Connection, lease: Lease) -> None:
    """Refuse every later write of the run that holds a lease; raise StaleRunError if another run holds it."""
    same = _of_trial(lease.study_name, lease.trial_number) & (LEASES.c.run_uuid == lease.run_uuid)
    fenced = conn.execute(update(LEASES).where(same).values(token=LEASES.c.token + 1))
    if fenced.rowcount == 0:
        raise _stale(lease.study_name, lease.trial_number, lease.run_uuid)


def release(conn: Connection, lease: Lease) -> None:
    """Delete the lease of this run after the outcome of its trial is stored; keep that of another run."""
    same = LEASES.c.run_uuid == lease.run_uuid  # unique to each run
    conn.execute(delete(LEASES).where(_of_trial(lease.study_name, lease.trial_number), same))


def abandon(conn: Connection, lease: Lease, why: str = "the worker was asked to stop") -> None:
    """Give the trial back, without counting a loss; another run may take it over at once."""
    _give_back(conn, lease, 0, why)


def count_loss(conn: Connection, lease: Lease) -> None:
    """Give back the trial of a worker that died, and count the loss."""
    _give_back(conn, lease, 1, "its worker died")


def forget_losses(conn: Connection, lease: Lease) -> None:
    """Reset the losses of a trial, which finished a window."""
    conn.execute(update(LEASES).where(_held(lease)).values(losses=0))


def _give_back(conn: Connection, lease: Lease, losses: int, why: str) -> None:
    given = {"renewed_at": ABANDONED_AT, "window": None, "losses": LEASES.c.losses + losses}
    if conn.execute(update(LEASES).where(_held(lease)).values(**given)).rowcount:
        _mark_lost(conn, lease.study_name, lease.trial_number, why)


def count_leases(conn: Connection) -> int:
    """Return the number of leases in the database."""
    return int(conn.execute(select(func.count()).select_from(LEASES)).scalar_one())


def active(conn: Connection, study: str) -> list[Lease]:
    """Return every lease of a study, lost and abandoned ones included, by trial number."""
    rows = select(*stored_columns(conn, LEASES)).where(LEASES.c.study_name == study)
    return [_lease(row) for row in conn.execute(rows.order_by(LEASES.c.trial_number)).mappings()]


def lost(conn: Connection, study: str, now: float, alive: Callable[[Lease], bool]) -> list[Lease]:
    """Return the leases whose run ended without an outcome; see `is_lost`."""
    return [lease for lease in active(conn, study) if is_lost(lease, now, alive)]


def is_lost(lease: Lease, now: float, alive: Callable[[Lease], bool]) -> bool:
    """Return whether a lease was given back, its process ended, or it expired.

    On this machine the lease of a process that lives and is not stopped does not expire.
    """
    if lease.abandoned or not alive(lease):
        return True
    if lease.host == this_host() and not stands_still(lease.pid):
        return False
    return lease.renewed_at + lease.lease_s < now


def awaits_supervisor(lease: Lease, now: float) -> bool:
    """Return whether the living supervisor of a dead worker has not yet counted or forgiven its death."""
    if lease.abandoned or lease.host != this_host() or owner_alive(lease):
        return False
    if lease.supervisor_pid is None or lease.renewed_at + lease.lease_s < now:
        return False
    return process_alive(lease.host, lease.supervisor_pid, lease.supervisor_started or 0.0)


def is_future(lease: Lease, now: float) -> bool:
    """Return whether a lease was renewed after now, because the clock was set back since."""
    return lease.renewed_at > now + FUTURE_S


def pull_back(conn: Connection, now: float, study: str | None = None) -> None:
    """Set leases that were renewed in the future to now, so that those of dead runs expire.

    A run that lives renews its lease with the present time soon.
    """
    ahead = LEASES.c.renewed_at > now + FUTURE_S
    if study is not None:
        ahead &= LEASES.c.study_name == study
    if conn.execute(select(LEASES.c.run_uuid).where(ahead).limit(1)).first() is not None:
        conn.execute(update(LEASES).where(ahead).values(renewed_at=now))


def refuse_other_hosts(conn: Connection, now: float) -> None:
    """Raise BadInputError where another host works on a SQLite file: its locks serve one host."""
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


def owner_alive(lease: Lease) -> bool:
    """Return whether the process that took the lease still runs; one on another host counts as running."""
    return process_alive(lease.host, lease.pid, lease.process_started)


def _mark_lost(conn: Connection, study: str, number: int, reason: str) -> None:
    """Mark RUNNING runs of this trial as LOST."""
    of_trial = (RUNS.c.study_name == study, RUNS.c.trial_number == number, RUNS.c.state == RunState.RUNNING)
    conn.execute(update(RUNS).where(*of_trial).values(state=RunState.LOST, reason=reason))


def _of_trial(study: str, number: int) -> ColumnElement[bool]:
    return (LEASES.c.study_name == study) & (LEASES.c.trial_number == number)


def _owned(study: str, number: int, run_uuid: str, token: int) -> ColumnElement[bool]:
    """Match the lease of this run, unless it was given back."""
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
    return Lease(**{field.name: row[field.name] for field in fields(Lease) if field.name in row})
