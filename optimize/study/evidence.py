"""Evidence of phase 1: how its combinations compare, stored as an event, and its verdict in words."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from sqlalchemy import Connection, Engine

from optimize.evaluate.confidence import MIN_SESSIONS
from optimize.evaluate.power import INTERVAL, Precision
from optimize.results.records import EventRecord, events, log_event
from optimize.study.budget import needed, resolution

EVIDENCE = "phase_evidence"
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
class Evidence:
    """The verdict of phase 1."""

    study_name: str
    data_fingerprint: str
    rule: str
    confidence: float  # with which the best combination is among the kept
    bootstraps: int
    block: int  # mean length of a bootstrap block, in sessions
    sessions: int
    seed_deviation: float  # of the annualised Sharpe ratio, from seed to seed beyond what sessions explain
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
        """Return the combinations that cannot be told from the best."""
        return tuple(each for each in self.combinations if each.kept)

    @property
    def added(self) -> tuple[Combination, ...]:
        """Return what phase 2 may propose though it was not kept: its lists know no pairs."""
        pairs = (each for each in self.combinations if not each.kept)
        return tuple(each for each in pairs if self._proposes(each))

    def _proposes(self, each: Combination) -> bool:
        return each.timeframe in self.timeframes and each.lookback in self.lookbacks


def verdict_lines(evidence: Evidence) -> list[str]:
    """Return which combinations are kept, what else the model phase searches, and by which rule."""
    lookbacks = ", ".join(map(str, evidence.lookbacks))
    searched = f"timeframes {', '.join(evidence.timeframes)}, lookbacks {lookbacks}"
    lines = [_verdict(evidence), f"the model phase searches {searched}"]
    if evidence.added:
        pairs = ", ".join(f"{each.timeframe} x {each.lookback}" for each in evidence.added)
        lines[-1] += f", in every pairing: {pairs} too, though not kept, because the two lists know no pairs"
    precision, year = evidence.precision, evidence.sessions_per_year
    several = sum(each.reason is None for each in evidence.combinations) > 1
    if precision is not None and year is not None and several and not evidence.decided:
        lines.append(needed(precision, year))
    counts = f"{evidence.sessions} sessions, blocks of {evidence.block}, {evidence.bootstraps} bootstraps"
    rule = f"rule: {evidence.rule}; {100 * evidence.confidence:g} % confidence, {counts}, {_seeds(evidence)}"
    if precision is not None and year is not None:
        rule = f"{rule}; {resolution(precision, year)}"
    lines.append(rule)
    if evidence.compared:
        lines.append(f"compared: {evidence.compared}")
    return lines


def _verdict(evidence: Evidence) -> str:
    compared = {each.timeframe for each in evidence.combinations if each.reason is None}
    total, kept = len(evidence.combinations), len(evidence.kept)
    share = f"{kept} of {total} combinations {'is' if kept == 1 else 'are'} kept"
    if all(each.p_value is None for each in evidence.combinations):
        whole = "all timeframes are kept" if kept == total else "what has scores is kept"
        few = f"{evidence.sessions} test sessions, and {MIN_SESSIONS} are the least"
        return f"not enough data to decide: {whole} ({share}; {few})"
    if len(compared) == 1 and kept < 2:
        return f"only {evidence.timeframes[0]} was compared: {share}"
    if not evidence.decided:
        return f"not enough data to decide: no combination can be told from the best ({share})"
    if len(compared) == 1:
        return f"only {evidence.timeframes[0]} was compared: {share}"
    if compared == set(evidence.timeframes):
        return f"no timeframe can be told from the best: all {len(compared)} are kept ({share})"
    if len(evidence.timeframes) == 1:
        return f"{evidence.timeframes[0]} is better than every other timeframe ({share})"
    return f"{', '.join(evidence.timeframes)} cannot be told from the best: {share}"


def _seeds(evidence: Evidence) -> str:
    """Return how far seeds move a Sharpe ratio, with an interval: few trials may agree by luck."""
    low, high = evidence.seed_low, evidence.seed_high
    if low is None or high is None:
        return f"seeds move a Sharpe ratio by {evidence.seed_deviation:.2f}"
    if low == 0:
        return f"the effect of seeds on a Sharpe ratio cannot be told from luck (0 to {high:.2f})"
    interval = f"{INTERVAL:.0%} interval {low:.2f} to {high:.2f}"
    return f"seeds move a Sharpe ratio by {evidence.seed_deviation:.2f} ({interval})"


def record_evidence(engine: Engine, evidence: Evidence) -> None:
    """Store the evidence with phase 1, once for each verdict."""
    detail = asdict(evidence)
    with engine.begin() as conn:
        stored = events(conn, evidence.study_name, EVIDENCE)
        if not stored or stored[-1].detail != _as_stored(detail):
            log_event(conn, EventRecord(evidence.study_name, EVIDENCE, verdict_lines(evidence)[0], detail))


def stored_evidence(conn: Connection, study: str) -> Evidence | None:
    """Return the last verdict of a timeframe phase; None without one, or by the rule of an older version."""
    found = events(conn, study, EVIDENCE)
    return _load(found[-1].detail) if found else None


def _load(detail: Mapping[str, Any]) -> Evidence | None:
    if not {part.name for part in fields(Evidence) if part.default is MISSING} <= detail.keys():
        return None
    own = {part.name: detail[part.name] for part in fields(Evidence) if part.name in detail}
    combinations = tuple(
        Combination(**each | {"sharpes": tuple(each["sharpes"])}) for each in detail["combinations"]
    )
    lists = {key: tuple(detail[key]) for key in ("timeframes", "lookbacks")}
    measured = detail.get("precision")
    precision = None if measured is None else Precision(**measured)
    return Evidence(**own | lists | {"combinations": combinations, "precision": precision})


def _as_stored(detail: Any) -> Any:
    """Return plain data as JSON brings it back: tuples become lists."""
    if isinstance(detail, dict):
        return {key: _as_stored(value) for key, value in detail.items()}
    return [_as_stored(value) for value in detail] if isinstance(detail, (list, tuple)) else detail
