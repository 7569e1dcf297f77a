"""Events of a study: rows of wf_events, each with a message for people and a typed record for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from sqlalchemy import Connection, insert, select

from optimize import clock
from optimize.results.rows import where
from optimize.results.tables import EVENTS

KEY = "key"  # metadata of a field whose key in the database is another


class EventKind(StrEnum):
    """Kind of an event, as the database holds it."""

    PAUSED = "pause"
    RESUMED = "resume"
    STOPPED = "stop"
    FAILURE = "triage"
    CLOSED = "closed"
    LAUNCH = "launch"
    PREFLIGHT = "preflight"
    JOINED = "joined"
    FOLDER = "folder"
    SOURCE = "source"
    VERSIONS = "versions"
    EQUAL_CODES = "code"
    RENAMED = "renamed"
    NOTE_FAILED = "note_failed"
    RETURNS_LOST = "returns_lost"
    PHASE_EVIDENCE = "phase_evidence"
    SELECTION = "selection"
    STARTING_POINTS = "starting_points"
    OUTER_WINDOW = "outer_window"
    NESTED = "nested"


class Progress(StrEnum):
    """State of a part of a launch."""

    RUNS = "runs"
    PASSED = "passed"
    FAILED = "failed"


class FailureAction(StrEnum):
    """Decision about the trial of a failed run."""

    RETRIED = "retried"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Event:
    """Base of the events; every field with a default may be missing in a stored row."""

    kind: ClassVar[EventKind]


@dataclass(frozen=True)
class Paused(Event):
    """No trial is handed out until the study is resumed."""

    kind = EventKind.PAUSED


@dataclass(frozen=True)
class Resumed(Event):
    """Trials are handed out again."""

    kind = EventKind.RESUMED
    after_trial: int = -1  # failures of trials up to this number no longer count


@dataclass(frozen=True)
class Stopped(Event):
    """Workers leave the study."""

    kind = EventKind.STOPPED
    by: str | None = None  # TRIAGE where the failures of the study stopped it; None: a person did
    why: str | None = None
    rule: str | None = None  # the limit that was reached
    causes: tuple[str, ...] = ()  # signatures of the failures

    @property
    def by_failures(self) -> bool:
        """Return whether the study stopped because of its failures."""
        return self.by == TRIAGE


TRIAGE = "triage"


@dataclass(frozen=True)
class FailureHandled(Event):
    """A failed run was retried or skipped."""

    kind = EventKind.FAILURE
    trial: int
    run_uuid: str
    failure_kind: str | None = field(metadata={KEY: "kind"})
    action: FailureAction
    why: str


@dataclass(frozen=True)
class TrialsClosed(Event):
    """Trials were closed before they ran."""

    kind = EventKind.CLOSED
    trials: tuple[int, ...]
    why: str | None = None


@dataclass(frozen=True)
class ProcessEvent(Event):
    """A part of a launch began or ended in a process."""

    state: Progress
    host: str  # of this_host
    pid: int
    process_started: float
    overrides: tuple[str, ...] | None = None  # words of its command, without secrets; None: it had none


@dataclass(frozen=True)
class LaunchEvent(ProcessEvent):
    """The launch of a study began or ended."""

    kind = EventKind.LAUNCH


@dataclass(frozen=True)
class PreflightEvent(ProcessEvent):
    """The preflight of a launch began or ended."""

    kind = EventKind.PREFLIGHT


@dataclass(frozen=True)
class WorkersJoined(Event):
    """Workers of another machine joined."""

    kind = EventKind.JOINED
    host: str | None = None


@dataclass(frozen=True)
class FolderMarked(Event):
    """A launch left a token in the folder of the study."""

    kind = EventKind.FOLDER
    token: str
    path: str  # of the output_dir
    host: str


@dataclass(frozen=True)
class SourceDescribed(Event):
    """Bars of a launch; the message is the line to print."""

    kind = EventKind.SOURCE
    symbols: tuple[str, ...] = ()
    timeframe: str | None = None  # of the market
    source_timeframe: str | None = None  # of the bars
    source: str | None = None  # the file, or the maker of the bars
    first: str | None = None  # date of the first bar, UTC
    last: str | None = None


@dataclass(frozen=True)
class VersionsChanged(Event):
    """A launch has other packages or another processor than the one before."""

    kind = EventKind.VERSIONS


@dataclass(frozen=True)
class CodesEqual(Event):
    """Two codes trained a stored window to equal results."""

    kind = EventKind.EQUAL_CODES
    then: str | None  # None: a run or study that did not record its code
    now: str | None
    trial: int | None = None
    window: int | None = None
    repeat: int | None = None


@dataclass(frozen=True)
class StudyRenamed(Event):
    """A study that Optuna's tools renamed has its name again."""

    kind = EventKind.RENAMED


@dataclass(frozen=True)
class NoteFailed(Event):
    """A trial has no note or picture on the dashboard."""

    kind = EventKind.NOTE_FAILED


@dataclass(frozen=True)
class ReturnsLost(Event):
    """Files with the returns of windows are gone."""

    kind = EventKind.RETURNS_LOST
    lost: tuple[tuple[str, int, int, str], ...] = ()  # run uuid, window, repeat, path of each


@dataclass(frozen=True)
class SelectionMeasured(Event):
    """The selection walk-forward was measured."""

    kind = EventKind.SELECTION
    trials: int  # that had ended
    sessions: int  # of the windows from the second one on; 0: no trial could be chosen
    sharpe: float | None = None  # annualised; None without variance
    standard_error: float | None = None
    random_choice: float | None = None  # Sharpe ratio of a trial that is drawn at random for each window


@dataclass(frozen=True)
class StartingPointsChosen(Event):
    """The parameter sets that a study tries first were fixed."""

    kind = EventKind.STARTING_POINTS
    points: tuple[str, ...]  # the values of each set as JSON
    start_from: str | None = None  # the study that some of them come from
    sources: tuple[str, ...] = ()  # of each set, one of SetSource


@dataclass(frozen=True)
class OuterWindowTraded(Event):
    """The best trial of a study on the bars before an outer window traded the window."""

    kind = EventKind.OUTER_WINDOW
    window: int
    n_trials: int  # cap of the study before the window
    test_start: str
    test_end: str  # exclusive
    sessions: int
    inner: str  # the study before the window
    trials: int  # of it, that ended
    score: float | None  # of its best parameter set; None: none has a score
    sharpe: float | None  # annualised, of the trade
    growth: float  # return of the trade
    trader: str | None = None  # the study of the trade; None: nothing was traded
    parameters: Mapping[str, Any] | None = None  # that traded


@dataclass(frozen=True)
class NestedMeasured(Event):
    """All outer windows of a nested walk-forward were traded."""

    kind = EventKind.NESTED
    n_trials: int  # cap of the study before each window
    windows: int
    sessions: int
    trials: int  # of all studies before windows
    growth: float
    sharpe: float | None = None  # annualised, of the joined sessions; None without variance
    standard_error: float | None = None


E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True)
class Logged(Generic[E_co]):
    """An event of a study as it was logged."""

    study_name: str
    message: str
    event: E_co
    at: datetime


def log_event(conn: Connection, study: str, message: str, event: Event, at: datetime | None = None) -> None:
    """Store an event."""
    row = {
        "study_name": study,
        "at": at or clock.now(),
        "kind": str(event.kind),
        "message": message,
        "detail": detail_of(event),
    }
    conn.execute(insert(EVENTS).values(row))


def events(conn: Connection, study: str, kind: type[E]) -> list[Logged[E]]:
    """Return the events of a kind in a study, oldest first; rows that lack a field are left out."""
    rows = where(EVENTS, study_name=study, kind=str(kind.kind)).order_by(EVENTS.c.event_id)
    read = (_logged(row, (kind,)) for row in conn.execute(rows).mappings())
    return [each for each in read if each is not None]


def last_event(conn: Connection, studies: Iterable[str], kinds: Sequence[type[E]]) -> Logged[E] | None:
    """Return the newest event of these kinds in the studies; None without one or where it lacks a field."""
    names = [str(kind.kind) for kind in kinds]
    newest = select(EVENTS).where(EVENTS.c.study_name.in_(list(studies)), EVENTS.c.kind.in_(names))
    row = conn.execute(newest.order_by(EVENTS.c.event_id.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _logged(row, kinds)


def detail_of(event: Event) -> dict[str, Any] | None:
    """Return the record of an event as plain data; None for one without fields."""
    return {_key(each): _plain(getattr(event, each.name)) for each in fields(event)} or None


def _logged(row: Mapping[Any, Any], kinds: Sequence[type[E]]) -> Logged[E] | None:
    kind = next(kind for kind in kinds if kind.kind == row[EVENTS.c.kind])
    event = read_event(kind, row[EVENTS.c.detail])
    if event is None:
        return None
    return Logged(row[EVENTS.c.study_name], row[EVENTS.c.message], event, row[EVENTS.c.at])


def read_event(kind: type[E], detail: Mapping[str, Any] | None) -> E | None:
    """Return the event of a stored detail; None where it lacks a field, as one of an older version may."""
    try:
        event: E = _record(kind, detail or {})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return event


def _record(kind: Any, stored: Mapping[str, Any]) -> Any:
    """Return a dataclass from plain data; KeyError where a field without a default is missing."""
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]))
    values = {}
    for each in fields(kind):
        if _key(each) in stored:
            values[each.name] = _typed(hints[each.name], stored[_key(each)])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise KeyError(each.name)
    return kind(**values)


def _typed(hint: Any, value: Any) -> Any:
    """Return plain data as a value of a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None:
            return None
        (inner,) = (each for each in arguments if each is not NoneType)
        return _typed(inner, value)
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments
        return tuple(_typed(each, part) for each, part in zip(inner, value, strict=True))
    if is_dataclass(hint):
        return _record(hint, value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, StrEnum) else value


def _plain(value: Any) -> Any:
    """Return a field's value as JSON holds it."""
    if is_dataclass(value):
        return {_key(each): _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, StrEnum) else value


def _key(each: "Field[Any]") -> str:
    return str(each.metadata.get(KEY, each.name))
