"""Events of a study, as typed records: event_log stores each as a row of wf_events with a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

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
    TIMEFRAME_SCREEN = "timeframe_screen"
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
    finalists: int = 0  # nested_finalists and, where it is not 0, nested_seeds
    seeds: int = 0


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
    finalists: int = 0
    seeds: int = 0
    given_sets: int = 0  # sets of search.enqueue
