"""Verdict of the timeframe phase: the comparison of its combinations, stored as an event."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from optimize.evaluate.precision import Precision
from optimize.results.event_log import last_event, log_event
from optimize.results.events import Event, EventKind

RULE = (
    "model confidence set (Hansen, Lunde & Nason 2011, range statistic) of the session returns at equal "
    "volatility, with noise for the effect of other seeds"
)


@dataclass(frozen=True)
class Combination:
    """One timeframe and lookback, over trials that differ only in their seeds."""

    timeframe: str
    lookback: int
    trials: int  # counted, those without a score included
    scores: int
    sharpes: tuple[float, ...] = ()  # annualised, of the joined session returns of each scored trial
    mean: float | None = None  # of these
    standard_error: float | None = None  # of that mean
    p_value: float | None = None  # the size of the test above which it is dropped; None: not tested
    kept: bool = False
    reason: str | None = None  # why it was left out of the comparison


@dataclass(frozen=True)
class Verdict(Event):
    """The verdict of the timeframe phase."""

    kind = EventKind.PHASE_EVIDENCE
    study_name: str
    data_fingerprint: str
    rule: str
    confidence: float  # with which the best combination is among the kept
    bootstraps: int
    block: int  # mean length of a bootstrap block, in sessions
    sessions: int
    seed_deviation: (
        float  # of the annualised Sharpe ratio, from seed to seed, without the part that sessions explain
    )
    combinations: tuple[Combination, ...]
    timeframes: tuple[str, ...]  # of the kept combinations
    lookbacks: tuple[int, ...]  # of the kept combinations
    # A verdict of version 0.1 has none of these.
    compared: str = ""  # statistic that the test compares, where it is not the score itself
    seed_low: float | None = None  # of the interval of seed_deviation
    seed_high: float | None = None
    sessions_per_year: float | None = None
    precision: Precision | None = None  # of Sharpe ratios of one session

    @property
    def decided(self) -> bool:
        """Return whether the comparison dropped any combination."""
        return any(each.reason is None and not each.kept for each in self.combinations)

    @property
    def kept(self) -> tuple[Combination, ...]:
        """Return the combinations that are not significantly worse than the best."""
        return tuple(each for each in self.combinations if each.kept)

    @property
    def added(self) -> tuple[Combination, ...]:
        """Return the dropped combinations whose timeframe and lookback phase 2 may still propose together."""
        pairs = (each for each in self.combinations if not each.kept)
        return tuple(each for each in pairs if self._proposes(each))

    def _proposes(self, each: Combination) -> bool:
        return each.timeframe in self.timeframes and each.lookback in self.lookbacks


def record_evidence(engine: Engine, evidence: Verdict, message: str) -> None:
    """Store the verdict with the timeframe phase, once; message is the verdict in one line."""
    with engine.begin() as conn:
        if stored_evidence(conn, evidence.study_name) != evidence:
            log_event(conn, evidence.study_name, message, evidence)


def stored_evidence(conn: Connection, study: str) -> Verdict | None:
    """Return the last verdict of a timeframe phase; None without one, or by the rule of an older version."""
    logged = last_event(conn, [study], [Verdict])
    return None if logged is None else logged.event
