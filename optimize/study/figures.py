"""The Plotly figures of a study: top trials against buy-and-hold, windows, timeframes."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from optimize.results.records import RunRecord, WindowRecord
from optimize.study.picture import HOLD_COLOR, TRIAL_COLOR, Curve

MOST_POINTS = 400  # of one line: Optuna stores a figure as text in the database
MOST_ROWS = 40
PALETTE = (TRIAL_COLOR, "#c8553d", "#2a9d8f", "#8a5fbf", "#5b6b7a")
HEIGHT = 430


def equity_figure(study: str, curves: Mapping[str, Curve], hold: Curve | None) -> Any:
    """Draw the equity of the best trials, best first, against buy-and-hold."""
    figure = go.Figure()
    for (name, curve), color in zip(curves.items(), PALETTE, strict=False):
        figure.add_trace(_line(name, curve, {"color": color, "width": 2}))
    if hold is not None and len(hold.sessions):
        figure.add_trace(_line("buy and hold", hold, {"color": HOLD_COLOR, "width": 2, "dash": "dot"}))
    return _laid_out(
        figure, f"{study}: equity of the top {len(curves)} over the test windows", y="equity, from 1"
    )


def window_figure(
    study: str, runs: Sequence[RunRecord], windows: Mapping[str, Sequence[WindowRecord]]
) -> Any:
    """Draw the Sharpe ratio of every trial in every window, best trial on top, median over repeats."""
    shown = runs[:MOST_ROWS]
    columns = sorted({row.window for run in shown for row in windows[run.run_uuid]})
    cells = [[_cell(windows[run.run_uuid], column) for column in columns] for run in shown]
    texts = [["" if value is None else f"{value:.1f}" for value in row] for row in cells]
    heat = go.Heatmap(
        z=cells,
        x=[f"window {column}" for column in columns],
        y=[f"trial {run.trial_number}" for run in shown],
        text=texts,
        texttemplate="%{text}",
        colorscale="RdBu",
        zmid=0,
        colorbar={"title": {"text": "Sharpe"}},
        xgap=2,
        ygap=2,
    )
    title = f"{study}: Sharpe ratio by window"
    if len(runs) > MOST_ROWS:
        title += f", best {MOST_ROWS} of {len(runs)}"
    figure = _laid_out(go.Figure(heat), title, height=max(HEIGHT, 140 + 22 * len(shown)))
    figure.update_yaxes(autorange="reversed")
    return figure


def timeframe_figure(study: str, runs: Sequence[RunRecord]) -> Any:
    """Draw mean and standard error of the score for every timeframe and lookback, and each trial as a dot."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        if run.score is not None:
            name = f"{run.spec['data']['timeframe']} x {run.spec['feature']['lookback']}"
            groups.setdefault(name, []).append(run.score)
    means = {name: statistics.fmean(scores) for name, scores in groups.items()}
    order = sorted(groups, key=lambda name: -means[name])
    errors = [_standard_error(groups[name]) for name in order]
    dots = [(name, score) for name in order for score in groups[name]]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[name for name, _ in dots],
            y=[score for _, score in dots],
            mode="markers",
            marker={"color": TRIAL_COLOR, "size": 7, "opacity": 0.35},
            name="trial",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=order,
            y=[means[name] for name in order],
            mode="markers",
            marker={"color": TRIAL_COLOR, "size": 13, "symbol": "diamond"},
            error_y={"type": "data", "array": errors, "thickness": 2, "width": 8},
            name="mean ± standard error",
        )
    )
    return _laid_out(figure, f"{study}: score by timeframe x lookback", y="score")


def _line(name: str, curve: Curve, line: dict[str, Any]) -> Any:
    count = len(curve.sessions)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    # Plain lists: arrays would be stored as base64, which older Plotly in a browser cannot read.
    days = curve.sessions[kept].astype("datetime64[D]").astype(str).tolist()
    equity = [round(value, 5) for value in curve.equity[kept].tolist()]
    return go.Scatter(x=days, y=equity, mode="lines", name=name, line=line)


def _laid_out(figure: Any, title: str, y: str = "", height: int = HEIGHT) -> Any:
    grid = {"gridcolor": "#e5e5e5", "zeroline": False}
    figure.update_layout(
        template="none",
        title={"text": title, "x": 0.02, "xanchor": "left", "font": {"size": 18}},
        height=height,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"color": "#333333", "size": 13},
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0},
        margin={"l": 80, "r": 30, "t": 60, "b": 90},
        xaxis={"showgrid": False},
        yaxis={**grid, "title": {"text": y}, "automargin": True},
    )
    return figure


def _cell(windows: Sequence[WindowRecord], window: int) -> float | None:
    found = [row.sharpe for row in windows if row.window == window and row.sharpe is not None]
    return round(statistics.median(found), 3) if found else None


def _standard_error(scores: Sequence[float]) -> float:
    return statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
