"""Events are typed: each comes back as it was logged, also from rows of version 0.1."""

import json
import re
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from optimize.clock import now
from optimize.results.event_log import events, last_event, log_event, read_event
from optimize.results.events import (
    TRIAGE,
    CodesEqual,
    Event,
    EventKind,
    FailureAction,
    FailureHandled,
    FolderMarked,
    LaunchEvent,
    NestedMeasured,
    NoteFailed,
    OuterWindowTraded,
    Paused,
    PreflightEvent,
    ProcessEvent,
    Progress,
    Resumed,
    ReturnsLost,
    SelectionMeasured,
    SourceDescribed,
    StartingPointsChosen,
    Stopped,
    StudyRenamed,
    TrialsClosed,
    VersionsChanged,
    WorkersJoined,
)
from optimize.results.tables import EVENTS
from optimize.results.timeframe_screen import TimeframeScreen
from optimize.results.timeframe_verdict import Verdict
from tests.optimize.results.factories import STUDY

LOGGED: list[Event] = [
    Paused(),
    Resumed(3),
    Stopped(TRIAGE, "five in a row failed", "max_failures", ("oom: #",)),
    FailureHandled(2, "uuid", "oom", FailureAction.RETRIED, "the cause may pass"),
    TrialsClosed((4, 5), "over the lowered cap"),
    LaunchEvent(Progress.RUNS, "host#1", 7, 1.5, ("name=small",)),
    PreflightEvent(Progress.FAILED, "host#1", 7, 1.5),
    WorkersJoined("host#1"),
    FolderMarked("token", "/studies", "host#1"),
    SourceDescribed(("EURUSD",), "1h", "1h", "bars.csv", "2020-01-01", "2021-01-01"),
    VersionsChanged(),
    CodesEqual(None, "b" * 64, 1, 2, 0),
    StudyRenamed(),
    NoteFailed(),
    ReturnsLost((("uuid", 0, 1, "trials/0000_uuid/windows/0/repeat_1/returns.parquet"),)),
    StartingPointsChosen(('{"agent.gamma": 0.9}',), "mine"),
    OuterWindowTraded(1, 4, "2020-01-01", "2020-02-01", 22, "mine.outer1", 4, 0.5, None, 0.01),
    NestedMeasured(n_trials=4, windows=3, sessions=60, trials=12, growth=0.1 + 0.2),
    SelectionMeasured(trials=12, sessions=72, sharpe=-0.1 - 0.2, standard_error=1.5),
]
ARCHIVE = Path("tests/versions/v0_1.zip")
STATE = "COMPLETE|PRUNED|RUNNING|WAITING|LOST|RETRIED|paused"
QUOTED = re.compile(
    rf"""["']({STATE})["']|(state|found|counts\([^)]*\))\w*(\[| [!=]= |=)["'](FAIL|running|stopped)["']"""
)


@pytest.mark.parametrize("event", LOGGED, ids=lambda event: str(event.kind))
def test_an_event_comes_back_as_it_was_logged(event: Event, engine: Engine) -> None:
    with engine.begin() as conn:
        log_event(conn, STUDY, "words", event)
        (found,) = events(conn, STUDY, type(event))
    assert found.event == event
    assert (found.study_name, found.message) == (STUDY, "words")


def test_every_kind_has_one_class() -> None:
    kinds = [type(event).kind for event in LOGGED] + [Verdict.kind, TimeframeScreen.kind]
    assert sorted(kinds) == sorted(EventKind)


def test_the_newest_event_of_several_kinds_and_studies_is_found(engine: Engine) -> None:
    with engine.begin() as conn:
        log_event(conn, "a", "first", Paused())
        log_event(conn, "b", "second", Stopped(why="asked"))
        log_event(conn, "c", "third", Resumed())
        log_event(conn, "a", "fourth", NoteFailed())
        kinds: tuple[type[Event], ...] = (Paused, Stopped, Resumed)
        found = last_event(conn, ["a", "b"], kinds)
    assert found is not None
    assert (found.message, found.event) == ("second", Stopped(why="asked"))


def test_a_row_that_lacks_a_field_is_left_out(engine: Engine) -> None:
    with engine.begin() as conn:
        for detail in (None, {"token": "t"}, {"token": "t", "path": "p", "host": "h", "more": 1}):
            row = {"study_name": STUDY, "kind": "folder", "message": "", "at": now(), "detail": detail}
            conn.execute(insert(EVENTS).values(row))
        assert [each.event for each in events(conn, STUDY, FolderMarked)] == [FolderMarked("t", "p", "h")]


def test_every_event_of_version_0_1_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".db"))
        archive.extract(name, tmp_path)
    with closing(sqlite3.connect(tmp_path / name)) as conn:
        rows = conn.execute("SELECT kind, detail_json FROM wf_events").fetchall()
    classes = {type(event).kind: type(event) for event in LOGGED} | {Verdict.kind: Verdict}
    read = [read_event(classes[EventKind(kind)], json.loads(detail or "null")) for kind, detail in rows]
    assert rows
    assert None not in read
    launches = [event for event in read if isinstance(event, LaunchEvent)]
    assert {event.state for event in launches} == {Progress.RUNS, Progress.PASSED}
    assert all(event.overrides for event in launches)


def test_fields_that_older_rows_lack_have_a_default() -> None:
    """Resumed, Stopped and TrialsClosed got fields over time."""
    for kind in (Resumed, Stopped):
        assert all(each.default is not MISSING for each in fields(kind))
    assert issubclass(LaunchEvent, ProcessEvent)


def test_no_state_is_quoted_outside_results() -> None:
    allowed = {"optimize/doctor/findings.py"}  # a finding is FAIL, which is no state of a run
    found = [
        f"{path}: {line.strip()}"
        for path in sorted(Path("optimize").rglob("*.py"))
        if path.parent != Path("optimize/results") and str(path) not in allowed
        for line in path.read_text(encoding="utf-8").splitlines()
        if QUOTED.search(line.partition("#")[0]) and not line.lstrip().startswith('"""')
    ]
    assert found == []
