"""Gates of an export: limits on a study and on each trial, with the figure that each of them judged."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from optimize.database import Connection, Engine
from optimize.errors import require
from optimize.evaluate.captions import BUY_AND_HOLD, best_baseline
from optimize.report.format import decimal, format_score, in_percent
from optimize.report.gates import IMPLAUSIBLE
from optimize.report.selection import selection_now
from optimize.results.queries import (
    LeaderboardRow,
    health_of,
    studies_of,
    window_sharpes,
)
from optimize.results.records import load_baselines, load_study
from optimize.results.study_names import searched_name

BEST_BASELINE = "best_baseline"
RIVALS = (BUY_AND_HOLD, BEST_BASELINE)
NOT_MEASURED = "was not measured"


@dataclass(frozen=True)
class GateSpec:
    """Limits of an export; None: no limit."""

    min_finished_trials: int | None = None  # COMPLETE and PRUNED, over all phases of the study
    min_selection_score: float | None = 0.0  # Sharpe ratio of the selection walk-forward
    min_score: float | None = None
    min_trades: int | None = None  # over all windows
    min_windows_positive: int | None = None  # with a Sharpe ratio above 0
    max_drawdown: float | None = None  # share of equity, over bar closes where they were stored
    min_deflated_sharpe: float | None = None  # a probability
    max_luck_p: float | None = 0.05  # that chance alone shows such a score after all tries
    beat: str | None = None  # one of RIVALS

    def __post_init__(self) -> None:
        for key in ("min_finished_trials", "min_trades", "min_windows_positive"):
            value = getattr(self, key)
            require(value is None or value >= 0, key, value, "0 or more, or null")
        for key in ("max_drawdown", "min_deflated_sharpe", "max_luck_p"):
            value = getattr(self, key)
            require(value is None or 0 <= value <= 1, key, value, "from 0 to 1, or null")
        for key in ("min_score", "min_selection_score"):  # NaN would refuse nothing or everything in silence
            value = getattr(self, key)
            require(value is None or value == value, key, value, "a number, or null")
        require(
            self.beat in (None, *RIVALS), "beat", self.beat, f"one of {', '.join(RIVALS)}, or null", RIVALS
        )

    def describe(self) -> str:
        """Return the gates that are set as one line."""
        names = [each.name for each in fields(GateSpec)]
        stated = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name) is not None]
        return (
            f"gates: {', '.join(stated)}" if stated else "gates: none, so any trial with a score is exported"
        )


NO_GATES = GateSpec(min_selection_score=None, max_luck_p=None)
LUCK_GATES = ("min_deflated_sharpe", "max_luck_p")
ACCEPT = "accept"  # the key that lets flagged results through


@dataclass(frozen=True)
class GateCheck:
    """A gate with its limit, the figure that it judged, and why it blocks; None: it lets the result pass."""

    gate: str
    limit: float | str
    figure: float | None
    refusal: str | None = None

    @property
    def name(self) -> str:
        """Return the gate as it is typed."""
        return f"{self.gate}={self.limit if isinstance(self.limit, str) else format(self.limit, 'g')}"


def finished_trials(engine: Engine, study: str) -> int:
    """Return the number of COMPLETE and PRUNED trials over all phases of a study."""
    phases = studies_of(engine, searched_name(study))
    with engine.connect() as conn:
        found = [health_of(conn, phase) for phase in phases]
    return sum(each["complete"] + each["pruned"] for each in found)


def checks_of_study(
    conn: Connection, gates: GateSpec, study: str, sessions_per_year: float | None
) -> Iterator[GateCheck]:
    """Yield the gates that hold for a study as a whole."""
    if (least := gates.min_finished_trials) is not None:
        found = finished_trials(conn.engine, study)
        words = "{} trials have finished, those of all phases together"
        yield _at_least("min_finished_trials", least, found, words)
    if (floor := gates.min_selection_score) is None:
        return
    record = load_study(conn, study)
    measured = None if record is None else selection_now(conn, record, sessions_per_year)
    sharpe = None if measured is None else measured.sharpe
    why = None
    if sharpe is None:
        why = "the selection walk-forward was not measured, which needs two windows or more"
    elif not sharpe >= floor:
        why = (
            "choosing the trial of each window by the windows before it earned a Sharpe ratio of "
            f"{format_score(sharpe)}, so the search itself has shown no skill"
        )
    yield GateCheck("min_selection_score", floor, sharpe, why)


def checks_of_row(
    conn: Connection, gates: GateSpec, row: LeaderboardRow, sharpes: Sequence[float] | None = None
) -> Iterator[GateCheck]:
    """Yield the gates that hold for one result; `sharpes`: of the windows of an ensemble.

    The gates on luck compare with the other tries of a search, so that an ensemble has none of them.
    """
    if (floor := gates.min_score) is not None:
        why = None if row.score >= floor else f"its score is {format_score(row.score)}"
        yield GateCheck("min_score", floor, row.score, why)
    if gates.min_trades is not None:
        yield _at_least("min_trades", gates.min_trades, row.trades, "it made {} trades")
    if gates.min_windows_positive is not None:
        of_windows = window_sharpes(conn, row.run_uuid) if sharpes is None else sharpes
        rising = float(sum(sharpe > 0 for sharpe in of_windows))
        words = f"{{}} of its {row.windows} windows have a Sharpe ratio above 0"
        yield _at_least("min_windows_positive", gates.min_windows_positive, rising, words)
    if (deepest := gates.max_drawdown) is not None:
        yield _drawdown(deepest, row)
    if sharpes is None:
        yield from _luck(gates, row)
    if gates.beat is not None:
        yield _beaten(conn, gates.beat, row)


def accepted_flags(row: LeaderboardRow) -> tuple[GateCheck, ...]:
    """Return the key that let the flags of a result through, nothing where it has none."""
    return (GateCheck(ACCEPT, IMPLAUSIBLE, None),) if row.flags else ()


def _at_least(gate: str, least: float, value: float | None, words: str) -> GateCheck:
    """Return the check of a gate whose figure must reach its limit."""
    if value is None or math.isnan(value):
        return GateCheck(gate, least, None, f"its figure {NOT_MEASURED}")
    return GateCheck(gate, least, value, None if value >= least else words.format(f"{value:.6g}"))


def _drawdown(deepest: float, row: LeaderboardRow) -> GateCheck:
    lost = row.max_drawdown if row.max_drawdown_bars is None else row.max_drawdown_bars
    if lost is None or math.isnan(lost):
        return GateCheck("max_drawdown", deepest, None, f"its drawdown {NOT_MEASURED}")
    why = None if -lost <= deepest else f"it lost {in_percent(-lost)} from its peak"
    return GateCheck("max_drawdown", deepest, -lost, why)


def _luck(gates: GateSpec, row: LeaderboardRow) -> Iterator[GateCheck]:
    """Yield the gates on the luck of a trial; a finalist has the luck of its search."""
    least, most = gates.min_deflated_sharpe, gates.max_luck_p
    if least is not None:
        found = row.deflated_sharpe_ratio
        yield _at_least("min_deflated_sharpe", least, found, "its deflated Sharpe ratio is {}")
    if most is None:
        return
    p_value = row.p_flat
    if p_value is None or math.isnan(p_value):
        yield GateCheck("max_luck_p", most, None, f"its luck {NOT_MEASURED}")
    else:
        chance = f"chance alone shows such a score in {in_percent(p_value)} of searches"
        yield GateCheck("max_luck_p", most, p_value, None if p_value <= most else chance)


def _beaten(conn: Connection, rival: str, row: LeaderboardRow) -> GateCheck:
    """Return the check whether a result scores above its rival."""
    score, label = row.buy_and_hold, "buy-and-hold"
    if rival == BEST_BASELINE:
        best = best_baseline(load_baselines(conn, row.study_name))
        score, label = (None, rival) if best is None else (best.score, f"{best.name} ({best.timeframe})")
    why = None
    if score is None or math.isnan(score):
        why = f"the score of {label} {NOT_MEASURED}"
    elif not row.score > score:
        why = f"it scores {decimal(row.score, 4)}, {label} {decimal(score, 4)}"
    return GateCheck("beat", rival, row.score, why)
