"""Gates of an export: limits on a study and on each trial; each refusal has the name of its gate."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from optimize.bundles.finalist_rows import finalist_leaderboard
from optimize.database import Connection, Engine
from optimize.errors import WalkforgeError, require
from optimize.evaluate.captions import BUY_AND_HOLD, best_baseline
from optimize.report.format import decimal, format_score, in_percent
from optimize.report.selection import selection_now
from optimize.results.queries import (
    LeaderboardRow,
    best_models,
    health_of,
    studies_of,
    window_sharpes,
)
from optimize.results.records import load_baselines, load_study
from optimize.results.study_names import searched_name

BEST_BASELINE = "best_baseline"
RIVALS = (BUY_AND_HOLD, BEST_BASELINE)
MOST_NAMED = 10  # refused trials that are named one by one
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


@dataclass(frozen=True)
class GateRefusal:
    """A trial that a gate blocked."""

    trial: int
    gate: str
    why: str

    def __str__(self) -> str:
        return f"trial {self.trial} is refused by {self.gate}: {self.why}"


def gated_rows(
    engine: Engine, study: str, top_n: int, gates: GateSpec, echo: Callable[[str], None]
) -> list[LeaderboardRow]:
    """Return the best rows of the leaderboard that pass the gates, empty where no trial has a score.

    Trials that were added by hand have no run and are left out. Raises WalkforgeError where the gates refuse
    every trial.
    """
    passed, refused, by_hand, seen = [], list[GateRefusal](), list[LeaderboardRow](), 0
    for row in _ranked(engine, study, top_n):
        seen += 1
        if row.run_uuid is None:
            by_hand.append(row)
            continue
        with engine.connect() as conn:
            if seen - len(by_hand) == 1 and (why := _study_refusal(conn, gates, study, row)) is not None:
                raise WalkforgeError(f"every trial of {study} is refused by {why}. {_remedy(why)}")
            refusal = next(_failed(conn, gates, row), None)
        if refusal is None:
            passed.append(row)
        else:
            refused.append(GateRefusal(row.trial_number, *refusal))
        if len(passed) == top_n:
            break
    _report(by_hand, refused, echo)
    if refused and not passed:
        names = ", ".join(dict.fromkeys(each.gate for each in refused))
        head = f"no trial of {study} passes the gates: {len(refused)} refused by {names}"
        raise WalkforgeError(f"{head}. {_remedy(refused[0].gate)}")
    if seen and len(passed) < top_n:
        kind = "pass the gates" if refused else "are feasible"
        echo(f"top_n={top_n} were asked for; {len(passed)} distinct trials {kind}")
    return passed


def _ranked(engine: Engine, study: str, first: int) -> Iterator[LeaderboardRow]:
    """Yield the finalists where there are such, else the rows of a leaderboard, read in growing parts."""
    if finalists := finalist_leaderboard(engine, study):
        yield from finalists
        return
    limit, seen = first, 0
    while True:
        rows = best_models(engine, study, limit)
        yield from rows[seen:]
        if len(rows) < limit:
            return
        limit, seen = 2 * limit, len(rows)


def _remedy(gate: str) -> str:
    """Return the end of an error: no bundle was written, and how to go on."""
    name = gate.partition("=")[0]
    return (
        "Nothing is exported: search longer or on other bars, or state your own gates, such as "
        f"{name}=null or gate=none"
    )


def _report(
    by_hand: Sequence[LeaderboardRow], refused: Sequence[GateRefusal], echo: Callable[[str], None]
) -> None:
    """Print the trials that are left out and the gate of each refused one."""
    if by_hand:
        named = ", ".join(f"{row.trial_number} (rank {row.rank})" for row in by_hand)
        echo(f"left out: trials added by hand, whose score no run of Walkforge has measured: {named}")
    for each in refused[:MOST_NAMED]:
        echo(str(each))
    rest: dict[str, list[int]] = {}
    for each in refused[MOST_NAMED:]:
        rest.setdefault(each.gate, []).append(each.trial)
    for gate, trials in rest.items():
        echo(f"trials {', '.join(map(str, trials))} are refused by {gate}")


def finished_trials(engine: Engine, study: str) -> int:
    """Return the number of COMPLETE and PRUNED trials over all phases of a study."""
    phases = studies_of(engine, searched_name(study))
    with engine.connect() as conn:
        found = [health_of(conn, phase) for phase in phases]
    return sum(each["complete"] + each["pruned"] for each in found)


def _study_refusal(conn: Connection, gates: GateSpec, study: str, row: LeaderboardRow) -> str | None:
    """Return the gate that refuses every trial of a study, with the reason; None where none does."""
    if (least := gates.min_finished_trials) is not None:
        found = finished_trials(conn.engine, study)
        if found < least:
            return f"min_finished_trials={least}: {found} trials have finished, those of all phases together"
    if (floor := gates.min_selection_score) is None:
        return None
    name, record = f"min_selection_score={floor:g}", load_study(conn, study)
    measured = None if record is None else selection_now(conn, record, row.sessions_per_year)
    if measured is None or measured.sharpe is None:
        return f"{name}: the selection walk-forward was not measured, which needs two windows or more"
    if not measured.sharpe >= floor:
        return (
            f"{name}: choosing the trial of each window by the windows before it earned a Sharpe ratio of "
            f"{format_score(measured.sharpe)}, so the search itself has shown no skill"
        )
    return None


def refuse_by_gates(
    conn: Connection, gates: GateSpec, row: LeaderboardRow, title: str, sharpes: Sequence[float]
) -> None:
    """Raise WalkforgeError where a gate blocks an ensemble; `sharpes` are those of its windows.

    Its members have passed the gates on luck, which compare with the other tries of a search.
    """
    refusal = next(_failed(conn, gates, row, sharpes), None)
    if refusal is not None:
        gate, why = refusal
        raise WalkforgeError(f"the {title} is refused by {gate}: {why}. {_remedy(gate)}")


def _failed(
    conn: Connection, gates: GateSpec, row: LeaderboardRow, sharpes: Sequence[float] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield each gate that blocks a result, with the reason; `sharpes`: of the windows of an ensemble."""
    if (floor := gates.min_score) is not None and not row.score >= floor:
        yield f"min_score={floor:g}", f"its score is {format_score(row.score)}"
    yield from _at_least("min_trades", gates.min_trades, row.trades, "it made {} trades")
    if gates.min_windows_positive is not None:
        of_windows = window_sharpes(conn, row.run_uuid) if sharpes is None else sharpes
        rising = float(sum(sharpe > 0 for sharpe in of_windows))
        words = f"{{}} of its {row.windows} windows have a Sharpe ratio above 0"
        yield from _at_least("min_windows_positive", gates.min_windows_positive, rising, words)
    if (deepest := gates.max_drawdown) is not None:
        lost = row.max_drawdown if row.max_drawdown_bars is None else row.max_drawdown_bars
        if lost is None or not -lost <= deepest:
            why = (
                f"its drawdown {NOT_MEASURED}"
                if lost is None or math.isnan(lost)
                else f"it lost {in_percent(-lost)} from its peak"
            )
            yield f"max_drawdown={deepest:g}", why
    if sharpes is None:
        yield from _lucky(gates, row)
    if gates.beat is not None:
        yield from _unbeaten(conn, gates.beat, row)


def _at_least(name: str, least: float | None, value: float | None, words: str) -> Iterator[tuple[str, str]]:
    """Yield a gate whose figure is below its limit or missing."""
    if least is None:
        return
    if value is None or math.isnan(value):
        yield f"{name}={least:g}", f"its figure {NOT_MEASURED}"
    elif value < least:
        yield f"{name}={least:g}", words.format(f"{value:.6g}")


def _lucky(gates: GateSpec, row: LeaderboardRow) -> Iterator[tuple[str, str]]:
    """Yield the gates that a trial fails by its luck; a finalist has the luck of its search."""
    least, most = gates.min_deflated_sharpe, gates.max_luck_p
    found, p_value = row.deflated_sharpe_ratio, row.p_flat
    yield from _at_least("min_deflated_sharpe", least, found, "its deflated Sharpe ratio is {}")
    if most is not None and (p_value is None or not p_value <= most):
        chance = f"chance alone shows such a score in {in_percent(p_value)} of searches"
        why = f"its luck {NOT_MEASURED}" if p_value is None or math.isnan(p_value) else chance
        yield f"max_luck_p={most:g}", why


def _unbeaten(conn: Connection, rival: str, row: LeaderboardRow) -> Iterator[tuple[str, str]]:
    """Yield the gate `beat` where a trial does not score above its rival."""
    score, label = row.buy_and_hold, "buy-and-hold"
    if rival == BEST_BASELINE:
        best = best_baseline(load_baselines(conn, row.study_name))
        score, label = (None, rival) if best is None else (best.score, f"{best.name} ({best.timeframe})")
    if score is None or math.isnan(score):
        yield f"beat={rival}", f"the score of {label} {NOT_MEASURED}"
    elif not row.score > score:
        yield f"beat={rival}", f"it scores {decimal(row.score, 4)}, {label} {decimal(score, 4)}"
