"""What a running study has to show: the runs that ended since the last look, and the runs that live."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from optimize.database import server_time
from optimize.results.launches import announced_process
from optimize.results.leases import Lease, active, is_lost, owner_alive
from optimize.results.processes import host_name
from optimize.results.tables import RUNS, WINDOWS

PREFLIGHT = "preflight"  # the kind of its events
_RUNNING_SCORES = text(
    "SELECT t.number, v.step, v.intermediate_value FROM studies s "
    "JOIN trials t ON t.study_id = s.study_id AND t.state = 'RUNNING' "
    "JOIN trial_intermediate_values v ON v.trial_id = t.trial_id AND v.intermediate_value IS NOT NULL "
    "WHERE s.study_name = :name ORDER BY t.number, v.step"
)
_COLUMNS = (
    RUNS.c.run_uuid,
    RUNS.c.trial_number,
    RUNS.c.attempt,
    RUNS.c.state,
    RUNS.c.score,
    RUNS.c.reason,
    RUNS.c.failure_kind,
    RUNS.c.failure_message,
    RUNS.c.seconds,
    RUNS.c.finished_at,
)


@dataclass(frozen=True)
class EndedRun:
    """A run that recorded how it ended."""

    run_uuid: str
    trial_number: int
    attempt: int
    state: str
    score: float | None
    reason: str | None
    failure_kind: str | None
    failure_message: str | None
    seconds: float | None
    finished_at: datetime


@dataclass(frozen=True)
class LivingRun:
    """A run that holds a trial now."""

    host: str
    pid: int
    worker: int
    trial_number: int
    windows: int  # finished, each repeat counted
    score: float | None  # over the finished windows


def ended_since(conn: Connection, study: str, since: datetime | None) -> list[EndedRun]:
    """Return the runs that ended at or after a time, in the order they ended; None: all of them."""
    ended = select(*_COLUMNS).where(RUNS.c.study_name == study, RUNS.c.finished_at.is_not(None))
    if since is not None:
        ended = ended.where(RUNS.c.finished_at >= since)
    rows = conn.execute(ended.order_by(RUNS.c.finished_at, RUNS.c.trial_number, RUNS.c.attempt))
    return [EndedRun(**row) for row in rows.mappings()]


def preflighting(conn: Connection, study: str) -> tuple[str, int] | None:
    """Return the host and the process in which a study's preflight runs now, or None."""
    event = announced_process(conn, study, PREFLIGHT)
    return None if event is None else (host_name(event.detail["host"]), event.detail["pid"])


def time_left(trials: int, seconds_per_trial: float | None, workers: int) -> float | None:
    """Return the seconds that so many trials take, from what the finished ones took; None: not known.

    Neither a pause nor a start counts, and each trial takes one worker.
    """
    if trials <= 0:
        return 0.0
    if workers < 1 or seconds_per_trial is None:
        return None
    return seconds_per_trial * max(1.0, trials / workers)


def living_leases(conn: Connection, study: str) -> list[Lease]:
    """Return the leases that were renewed in time, by a process that lives as far as one can tell."""
    now = server_time(conn)
    return [lease for lease in active(conn, study) if not is_lost(lease, now, owner_alive)]


def living(conn: Connection, study: str) -> list[LivingRun]:
    """Return the runs that hold a trial, by trial number."""
    held = living_leases(conn, study)
    uuids = [lease.run_uuid for lease in held]
    counted = select(WINDOWS.c.run_uuid, func.count()).where(WINDOWS.c.run_uuid.in_(uuids))
    finished: Mapping[str, int] = {
        uuid: count for uuid, count in conn.execute(counted.group_by(WINDOWS.c.run_uuid))
    }
    # The last step of each trial wins, as they come in order.
    scores = {number: value for number, _, value in conn.execute(_RUNNING_SCORES, {"name": study})}
    return [
        LivingRun(
            lease.host,
            lease.pid,
            lease.worker,
            lease.trial_number,
            finished.get(lease.run_uuid, 0),
            scores.get(lease.trial_number),
        )
        for lease in held
    ]
