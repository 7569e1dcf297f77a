"""The code that runs of a study were computed by, and the pairs of codes that gave equal results."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from optimize.results.records import EventRecord, RunRecord, WindowRecord, events, load_study, log_event
from optimize.results.tables import RUNS, STUDIES, WINDOWS, load_rows

CODE_EVENT = "code"  # kind of the events that state that two codes are equivalent
CANDIDATES = 64  # windows that are considered for a comparison, the quickest first

Pair = tuple[str | None, str | None]  # None: a run or study that did not record its code


def equal_codes(conn: Connection, study: str) -> list[Pair]:
    """Return the pairs of codes that gave equal results on a stored window."""
    details: list[Mapping[str, Any]] = [event.detail or {} for event in events(conn, study, CODE_EVENT)]
    return [(detail["then"], detail["now"]) for detail in details if "then" in detail and "now" in detail]


def log_equal(conn: Connection, study: str, pair: Pair, message: str, detail: Mapping[str, Any]) -> None:
    """Record that two codes gave equal results, so that they are compared once only."""
    both = {"then": pair[0], "now": pair[1]}
    log_event(conn, EventRecord(study, CODE_EVENT, message, {**detail, **both}))


def are_equal(pairs: Iterable[Pair], one: str | None, other: str | None) -> bool:
    """Return whether two codes are the same, or connected by comparisons."""
    known, reached = list(pairs), {one}
    while True:
        further = {code for pair in known if reached & set(pair) for code in pair} - reached
        if not further:
            return other in reached
        reached |= further


def quickest_windows(conn: Connection, study: str) -> list[tuple[RunRecord, WindowRecord]]:
    """Return finished windows with their runs, the quickest first; windows of failed runs are left out."""
    ended = RUNS.c.state.in_(("COMPLETE", "PRUNED"))
    found = select(WINDOWS).join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid)
    found = found.where(RUNS.c.study_name == study, ended)
    quickest = found.order_by(WINDOWS.c.seconds, WINDOWS.c.run_uuid, WINDOWS.c.window).limit(CANDIDATES)
    windows = load_rows(conn, WindowRecord, WINDOWS, quickest)
    uuids = {window.run_uuid for window in windows}
    runs = load_rows(conn, RunRecord, RUNS, select(RUNS).where(RUNS.c.run_uuid.in_(sorted(uuids))))
    by_uuid = {run.run_uuid: run for run in runs}
    return [(by_uuid[window.run_uuid], window) for window in windows]


def codes_of_runs(conn: Connection, study: str, key: str) -> dict[str | None, int]:
    """Return how many finished runs of a study have each code, which `key` of their versions holds."""
    ended = RUNS.c.state.in_(("COMPLETE", "PRUNED"))
    counted = select(RUNS.c.versions, func.count()).where(RUNS.c.study_name == study, ended)
    counts: dict[str | None, int] = {}
    for versions, count in conn.execute(counted.group_by(RUNS.c.versions)):
        code = (versions or {}).get(key)
        counts[code] = counts.get(code, 0) + int(count)
    return counts


def follow_code(conn: Connection, study: str, code: Mapping[str, str], keys: Collection[str]) -> None:
    """Store the code of the latest launch, without which of `keys` it lacks."""
    record = load_study(conn, study)
    kept = {key: value for key, value in (record.versions if record else {}).items() if key not in keys}
    conn.execute(update(STUDIES).where(STUDIES.c.study_name == study).values(versions=kept | dict(code)))
