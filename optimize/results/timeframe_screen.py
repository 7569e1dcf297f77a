"""The screen of the timeframe phase: a linear probe of each combination, stored as an event."""

from dataclasses import dataclass

from optimize.database import Connection, has_table
from optimize.results.event_log import last_event
from optimize.results.events import Event, EventKind
from optimize.results.tables import EVENTS


@dataclass(frozen=True)
class ScreenedPair:
    """The probe of one timeframe and lookback on bars before the first test window; ratios are annualised."""

    timeframe: str
    lookback: int
    sharpe: float | None  # net; None: not measured
    high: float | None  # upper bound of its 95 % interval
    hopeless: bool  # that bound is not above 0
    reason: str | None = None  # why it was not measured


@dataclass(frozen=True)
class TimeframeScreen(Event):
    """The grid that is left of a timeframe phase; a launch that goes on takes it as it is."""

    kind = EventKind.TIMEFRAME_SCREEN
    pairs: tuple[ScreenedPair, ...]
    timeframes: tuple[str, ...]  # with a combination that is not hopeless
    lookbacks: tuple[int, ...]


def stored_screen(conn: Connection, study: str) -> TimeframeScreen | None:
    """Return the screen of a timeframe phase, None where there is none."""
    logged = last_event(conn, [study], [TimeframeScreen]) if has_table(conn, EVENTS.name) else None
    return None if logged is None else logged.event
