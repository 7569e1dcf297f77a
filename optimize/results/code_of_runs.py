"""The code that runs of a study were computed by, and the pairs of codes that gave equal results."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from optimize.results.event_log import events
from optimize.results.events import CodesEqual
from optimize.results.records import RunRecord, WindowRecord, load_study
from optimize.results.rows import load_rows
from optimize.results.states import COUNTED
from optimize.results.tables import RUNS, STUDIES, WINDOWS

CANDIDATES = 64  # windows that a comparison may use, the quickest first

Pair = tuple[str | None, str | None]  # None: a run or study that did not record its code


def equal_codes(conn: Connection, study: str) -> list[Pair]:
    """Return the pairs of code digests that gave equal results on a stored window."""
    return [(logged.event.then, logged.event.now) for logged in events(conn, study, CodesEqual)]


def are_equal(pairs: Iterable[Pair], one: str | None, other: str | None) -> bool:
    """Return whether two codes are the same, or connected by comparisons."""
    known, reached = list(pairs), {one}
    while True:
        further = {code for pair in known if reached & set(pair) for code in pair} - reached
        if not further:
            return other in reached
        reached |= further


def quickest_windows(
    conn: Connection, study: str, using: Collection[str] = ()
) -> list[tuple[RunRecord, WindowRecord]]:
    """Return finished windows with their runs; windows of failed runs are left out.

    The runs that use the most of the names `using` come first, then the quickest windows.
    """
    ended = RUNS.c.state.in_(COUNTED)
    of_study = select(RUNS.c.run_uuid, RUNS.c.spec).where(RUNS.c.study_name == study, ended)
    used = {uuid: len(used_names(spec) & set(using)) for uuid, spec in conn.execute(of_study)}
    keys = (WINDOWS.c.seconds, WINDOWS.c.run_uuid, WINDOWS.c.window, WINDOWS.c.repeat)
    every = select(*keys).join(RUNS, RUNS.c.run_uuid == WINDOWS.c.run_uuid)
    every = every.where(RUNS.c.study_name == study, ended).order_by(*keys)
    quickest = sorted(conn.execute(every), key=lambda row: -used[row.run_uuid])[:CANDIDATES]
    order = {(row.run_uuid, row.window, row.repeat): place for place, row in enumerate(quickest)}
    uuids = sorted({row.run_uuid for row in quickest})
    runs = load_rows(conn, RunRecord, RUNS, select(RUNS).where(RUNS.c.run_uuid.in_(uuids)))
    windows = load_rows(conn, WindowRecord, WINDOWS, select(WINDOWS).where(WINDOWS.c.run_uuid.in_(uuids)))
    by_uuid = {run.run_uuid: run for run in runs}
    found = {order.get((each.run_uuid, each.window, each.repeat)): each for each in windows}
    return [(by_uuid[found[place].run_uuid], found[place]) for place in range(len(quickest))]


def used_names(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of the features, forecaster, reward and agent in the settings of a run."""
    feature = settings["feature"]
    forecast = {feature["forecast"]} if "forecast" in feature else set()  # not stored by older versions
    return {*feature["indicators"], *forecast, settings["reward"]["name"], settings["agent"]["name"]}


def codes_of_runs(conn: Connection, study: str, key: str) -> dict[str | None, int]:
    """Return how many finished runs of a study have each code, which `key` of their versions holds."""
    ended = RUNS.c.state.in_(COUNTED)
    counted = select(RUNS.c.versions, func.count()).where(RUNS.c.study_name == study, ended)
    counts: dict[str | None, int] = {}
    for versions, count in conn.execute(counted.group_by(RUNS.c.versions)):
        code = (versions or {}).get(key)
        counts[code] = counts.get(code, 0) + int(count)
    return counts


def follow_code(conn: Connection, study: str, code: Mapping[str, str], keys: Collection[str]) -> None:
    """Store the code of the latest launch; those of `keys` that it lacks are removed."""
    record = load_study(conn, study)
    kept = {key: value for key, value in (record.versions if record else {}).items() if key not in keys}
    conn.execute(update(STUDIES).where(STUDIES.c.study_name == study).values(versions=kept | dict(code)))
