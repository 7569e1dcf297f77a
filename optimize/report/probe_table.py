"""The table of `walkforge probe`: a linear probe on each choice of inputs, and the columns that carry it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from optimize.evaluate.luck.holm import holm
from optimize.evaluate.probe.carriers import Carrier
from optimize.report.format import format_score, number, probability, share
from optimize.report.tables import Column
from optimize.walkforward.inner_probe import InnerProbe

SIZE = 0.05  # of the tests, after Holm
FEWEST_CARRIERS, MOST_CARRIERS = 3, 15
EDGE, HOPELESS, UNKNOWN = "edge", "hopeless", "cannot tell"
PROBE_COLUMNS = (
    Column("timeframe", "timeframe", right=False),
    Column("lookback", "lookback"),
    Column("groups", "columns", right=False),
    Column("sharpe", "net Sharpe", format_score),
    Column("low", "low", format_score),
    Column("high", "high", format_score),
    Column("detectable", "detectable", number()),
    Column("p_holm", "p (Holm)", probability),
    Column("gross", "gross Sharpe", format_score),
    Column("eaten", "costs take", number()),
    Column("cost", "cost", share, detail=True),
    Column("sessions", "sessions", detail=True),
    Column("verdict", "verdict", right=False),
)
CARRIER_COLUMNS = (
    Column("timeframe", "timeframe", right=False),
    Column("column", "column", right=False),
    Column("lag", "lag"),
    Column("horizon", "horizon"),
    Column("correlation", "correlation", number(3)),
    Column("t", "t", number(1)),
    Column("p_value", "p", probability),
    Column("p_holm", "p (Holm)", probability),
)


def probe_table(found: Sequence[InnerProbe]) -> list[dict[str, Any]]:
    """Return the rows of the table: p-values are one-sided and corrected for the number of rows (Holm)."""
    tested = [each for each in found if each.standard_error is not None]
    ratios = np.array([(each.sharpe or 0.0) / (each.standard_error or 1.0) for each in tested])
    corrected = dict(zip(map(id, tested), holm(norm.sf(ratios)), strict=True))
    return [
        {
            "timeframe": each.inputs.timeframe,
            "lookback": each.inputs.lookback,
            "groups": each.inputs.group_words,
            "sharpe": each.sharpe,
            "low": each.low,
            "high": each.high,
            "detectable": each.detectable,
            "p_holm": corrected.get(id(each)),
            "gross": each.gross,
            "eaten": each.eaten,
            "cost": each.cost,
            "sessions": each.sessions,
            "verdict": _verdict(each, corrected.get(id(each))),
        }
        for each in found
    ]


def _verdict(each: InnerProbe, p_holm: float | None) -> str:
    if each.reason is not None:
        return each.reason.partition(":")[0]
    if p_holm is not None and p_holm < SIZE:
        return EDGE
    return HOPELESS if each.hopeless else UNKNOWN


def carrier_table(found: Mapping[str, Sequence[Carrier]]) -> tuple[list[dict[str, Any]], int]:
    """Return at least three rows of the smallest p-values, and how many tests pass after Holm."""
    every = [(timeframe, each) for timeframe, carriers in found.items() for each in carriers]
    corrected = holm(np.array([each.p_value for _, each in every]))
    order = np.argsort([each.p_value for _, each in every], kind="stable")
    kept = [int(place) for place in order if corrected[place] < SIZE]
    several = any(each.symbol != each.traded for _, each in every)
    shown = [
        {
            "timeframe": timeframe,
            "column": f"{each.column} of {each.symbol}, for {each.traded}" if several else each.column,
            "lag": each.lag,
            "horizon": each.horizon,
            "correlation": each.correlation,
            "t": each.t,
            "p_value": each.p_value,
            "p_holm": float(corrected[place]),
        }
        for place in (kept[:MOST_CARRIERS] if len(kept) >= FEWEST_CARRIERS else order[:FEWEST_CARRIERS])
        for timeframe, each in [every[int(place)]]
    ]
    return shown, len(kept)


def probe_verdict(rows: Sequence[Mapping[str, Any]], carriers: int, tests: int) -> str:
    """Return the verdict on the table in one line."""
    measured = [row for row in rows if row["sharpe"] is not None]
    if not measured:
        return "no choice of inputs has enough bars before the first test window: use more data"
    edges = sum(row["verdict"] == EDGE for row in measured)
    best = max(measured, key=lambda row: row["sharpe"])
    where = f"{best['timeframe']} x {best['lookback']}, columns {best['groups']}"
    carried = f"{carriers} of {tests} tests of a column, lag and horizon pass Holm's correction"
    if edges:
        many = f"{edges} of {len(measured)} choices of inputs hold a linear edge after costs"
        return f"{many}, most of all {where}; {carried}"
    if all(row["verdict"] == HOPELESS for row in measured):
        return f"hopeless: no choice of inputs earns its costs in a straight line; {carried}"
    least = min((row["detectable"] for row in measured if row["detectable"] is not None), default=None)
    power = "" if least is None else f" (a Sharpe ratio below {number()(least)} would not show here)"
    return f"no linear edge can be told from luck{power}; the best is {where}; {carried}"
