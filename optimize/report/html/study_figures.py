"""Figures of a whole study as plain data for Plotly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optimize.report.html.page import Figure
from optimize.report.html.trial_figures import BAD, GREY, NET, rounded
from optimize.results.records import RunRecord
from optimize.results.states import RunState


def history_figure(runs: Sequence[RunRecord]) -> Figure:
    """Draw the score of each trial in the order of the search, the best so far, and trials without one."""
    scored = [
        run for run in runs if run.state == RunState.COMPLETE and run.score is not None and run.gate is None
    ]
    gated = [run for run in runs if run.state == RunState.COMPLETE and run.gate is not None]
    others = [run for run in runs if run.state != RunState.COMPLETE]
    floor = min((run.score or 0.0 for run in scored), default=0.0)
    best = np.maximum.accumulate([run.score or 0.0 for run in scored]) if scored else np.array([])
    data = [
        _dots("trial", NET, scored, [run.score for run in scored]),
        {
            "type": "scatter",
            "mode": "lines",
            "x": [run.trial_number for run in scored],
            "y": rounded(best),
            "name": "best so far",
            "line": {"color": GREY, "width": 1.5, "shape": "hv"},
        },
    ]
    if gated:
        data.append(_dots("blocked by a gate", BAD, gated, [run.score for run in gated]))
    if others:
        data.append(_dots("without a score", GREY, others, [floor] * len(others), symbol="x"))
    return {
        "data": data,
        "layout": {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": "score"}}},
    }


def cost_scatter(runs: Sequence[RunRecord]) -> Figure:
    """Draw the net score of each trial against its zero-cost Sharpe ratio."""
    found = [run for run in runs if (run.metrics or {}).get("sharpe_zero_cost") is not None]
    free = [float((run.metrics or {})["sharpe_zero_cost"] or 0.0) for run in found]
    low, high = min(free, default=0.0), max(free, default=0.0)
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": rounded([low, high]),
            "y": rounded([low, high]),
            "name": "no costs",
            "line": {"color": GREY, "dash": "dot", "width": 1.5},
        },
        {**_dots("trial", NET, found, [run.score for run in found]), "x": rounded(free)},
    ]
    axes = {
        "xaxis": {"title": {"text": "zero-cost Sharpe ratio"}},
        "yaxis": {"title": {"text": "score, net"}},
    }
    return {"data": data, "layout": axes}


def _dots(
    name: str, color: str, runs: Sequence[RunRecord], values: Sequence[Any], symbol: str = "circle"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [run.trial_number for run in runs],
        "y": rounded(values),
        "text": [f"trial {run.trial_number}" for run in runs],
        "name": name,
        "marker": {"color": color, "size": 8, "symbol": symbol, "opacity": 0.8},
    }
