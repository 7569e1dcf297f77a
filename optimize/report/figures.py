"""The Plotly figures of a study: top trials against holding, windows, timeframes."""

import statistics
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from optimize.report.equity import TRIAL_COLOR, Curve, equity_axis, hold_style
from optimize.report.format import legend_text, number
from optimize.report.timeframe_phase import verdict_lines
from optimize.results.records import RunRecord, WindowRecord
from optimize.results.timeframe_verdict import Combination, Verdict

MOST_POINTS = 400  # of one line: Optuna stores a figure as text in the database
MOST_ROWS = 40
PALETTE = (TRIAL_COLOR, "#c8553d", "#2a9d8f", "#8a5fbf", "#5b6b7a")
DOT_COLOR, DROPPED_COLOR = "#9aa5b1", "#c8553d"
HEIGHT = 430
TITLE_WIDTH = 110  # characters of a line below a title


def equity_figure(study: str, curves: Mapping[str, Curve], holds: Mapping[str, Curve]) -> Any:
    """Draw the equity of the best trials, best first, against the holding baselines."""
    figure = go.Figure()
    for (name, curve), color in zip(curves.items(), PALETTE, strict=False):
        figure.add_trace(_line(name, curve, {"color": color, "width": 2}))
    for name, hold in holds.items():
        if len(hold.sessions):
            figure.add_trace(_line(name, hold, {"color": hold_style(name)[1], "width": 2, "dash": "dot"}))
    logarithmic, title = equity_axis([*curves.values(), *holds.values()])
    if logarithmic:
        figure.update_yaxes(type="log")
    return laid_out(figure, f"{study}: equity of the top {len(curves)}", y=title)


def window_figure(
    study: str, runs: Sequence[RunRecord], windows: Mapping[str, Sequence[WindowRecord]]
) -> Any:
    """Draw the Sharpe ratio of every trial in every window, best trial on top, median over repeats."""
    shown = runs[:MOST_ROWS]
    columns = sorted({row.window for run in shown for row in windows[run.run_uuid]})
    cells = [[_cell(windows[run.run_uuid], column) for column in columns] for run in shown]
    texts = [["" if value is None else number(1)(value) for value in row] for row in cells]
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
    figure = laid_out(go.Figure(heat), title, height=max(HEIGHT, 140 + 22 * len(shown)))
    figure.update_yaxes(autorange="reversed")
    return figure


def timeframe_figure(evidence: Verdict) -> Any:
    """Draw the Sharpe ratio of every timeframe and lookback, which are kept, and each trial as a dot."""
    scored = [each for each in evidence.combinations if each.sharpes]
    shown = sorted(scored, key=lambda each: -(each.mean or 0.0))
    dots = [(_pair(each), sharpe) for each in shown for sharpe in each.sharpes]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[name for name, _ in dots],
            y=[sharpe for _, sharpe in dots],
            mode="markers",
            marker={"color": DOT_COLOR, "size": 7, "opacity": 0.5},
            name="trial",
        )
    )
    for name, color, group in (
        ("kept", TRIAL_COLOR, [each for each in shown if each.kept]),
        ("dropped", DROPPED_COLOR, [each for each in shown if not each.kept and each.reason is None]),
        ("not compared: too few scores", DOT_COLOR, [each for each in shown if each.reason is not None]),
    ):
        if group:
            figure.add_trace(_means(f"{name}, mean ± standard error", color, group))
    figure.update_xaxes(categoryorder="array", categoryarray=[_pair(each) for each in shown])
    title = f"{evidence.study_name}: Sharpe ratio by timeframe x lookback"
    verdict = f"{verdict_lines(evidence)[0]}; dropped where p is {1 - evidence.confidence:.2g} or less"
    sub = "</sub><br><sub>".join(wrap(verdict, TITLE_WIDTH))
    return laid_out(figure, f"{title}<br><sub>{sub}</sub>", y="annualised Sharpe ratio")


def _means(name: str, color: str, group: Sequence[Combination]) -> Any:
    return go.Scatter(
        x=[_pair(each) for each in group],
        y=[each.mean for each in group],
        text=["" if each.p_value is None else f" p {number()(each.p_value)}" for each in group],
        textposition="middle right",
        mode="markers+text",
        marker={"color": color, "size": 13, "symbol": "diamond"},
        error_y={"type": "data", "array": [each.standard_error or 0.0 for each in group], "thickness": 2},
        name=name,
    )


def _pair(each: Combination) -> str:
    return f"{each.timeframe} x {each.lookback}"


def _line(name: str, curve: Curve, line: dict[str, Any]) -> Any:
    count = len(curve.sessions)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    # Plain lists: arrays would be stored as base64, which older Plotly in a browser cannot read.
    days = curve.sessions[kept].astype("datetime64[D]").astype(str).tolist()
    equity = [round(value, 5) for value in curve.equity[kept].tolist()]
    return go.Scatter(x=days, y=equity, mode="lines", name=name, line=line)


def laid_out(figure: Any, title: str, y: str = "", height: int = HEIGHT) -> Any:
    """Return a figure with its title, in the colors and margins that all figures of the dashboard share."""
    for trace in figure.data:
        trace.name = legend_text(trace.name)
    grid = {"gridcolor": "#e5e5e5", "zeroline": False}
    figure.update_layout(
        template="none",
        title={
            "text": title,
            "x": 0.02,
            "xanchor": "left",
            "y": 0.97,
            "yanchor": "top",
            "font": {"size": 18},
        },
        height=height,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"color": "#333333", "size": 13},
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0},
        margin={"l": 80, "r": 30, "t": 75 + 18 * max(0, title.count("<br>") - 1), "b": 90},
        xaxis={"showgrid": False},
        yaxis={**grid, **({"title": {"text": y}} if y else {}), "automargin": True},
    )
    return figure


def _cell(windows: Sequence[WindowRecord], window: int) -> float | None:
    found = [row.sharpe for row in windows if row.window == window and row.sharpe is not None]
    return round(statistics.median(found), 3) if found else None
