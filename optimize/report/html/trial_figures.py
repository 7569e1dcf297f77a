"""Figures of one trial as plain data for Plotly; the page gives them the colors of its theme."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.types import DateArray, FloatArray
from optimize.report.equity import Curve, equity_axis, hold_style
from optimize.report.html.page import Figure
from optimize.report.html.series import Band, Drawdown, RollingSharpe, thinned
from optimize.results.records import WindowRecord

NET, HOLD, FREE, GREY, BAD = "#3b82c4", "#c07f2a", "#2a9d8f", "#8a94a0", "#d1574b"
SHADED, SHADE = "rgba(138,148,160,0.22)", "rgba(209,87,75,0.16)"
NET_BAND = "rgba(59,130,196,0.18)"
FOUR = 4  # digits of a drawn number


def equity_figure_of(
    curves: Mapping[int, Curve],
    shown: int,
    holds: Mapping[str, Curve],
    free: Curve | None,
    band: Band,
    borders: Sequence[str],
) -> Figure:
    """Draw equity with its luck band beside holding and the same actions without costs."""
    curve = curves[shown]
    data = luck_traces(curve, band, "luck band: 95 % without skill")
    for name, hold in holds.items():
        data.append(_curve(name, hold, {"color": hold_style(name)[1], "width": 1.6, "dash": "dot"}))
    if free is not None:
        data.append(_curve("zero cost", free, {"color": FREE, "width": 1.4, "dash": "dash"}))
    for repeat, other in curves.items():
        if repeat != shown:
            data.append(_curve(f"repeat {repeat}", other, {"color": NET, "width": 1}, opacity=0.4))
    name = "net of costs" if len(curves) == 1 else f"net of costs, repeat {shown}"
    data.append(_curve(name, curve, {"color": NET, "width": 2.4}))
    lines = [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": day,
            "x1": day,
            "y0": 0,
            "y1": 1,
            "line": {"color": GREY, "width": 1, "dash": "dot"},
        }
        for day in borders
    ]
    logarithmic, title = equity_axis([*curves.values(), *holds.values(), *([] if free is None else [free])])
    axis = {"title": {"text": title}, **({"type": "log"} if logarithmic else {})}
    return {"data": data, "layout": {"shapes": lines, "yaxis": axis}}


def drawdown_figure(sessions: DateArray, depth: FloatArray, worst: Sequence[Drawdown]) -> Figure:
    """Draw the loss from the highest equity, the deepest drawdowns shaded and numbered."""
    deepest = np.flatnonzero(np.isin(sessions, [each.deepest for each in worst]))
    kept = np.union1d(thinned(len(sessions)), deepest)  # thinning must not lose a numbered drawdown
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": days_of(sessions[kept]),
        "y": rounded(depth[kept]),
        "fill": "tozeroy",
        "fillcolor": SHADE,
        "line": {"color": BAD, "width": 1.4},
        "showlegend": False,
        "hovertemplate": "%{x}: %{y:.2%}<extra></extra>",
    }
    shapes, notes = [], []
    for place, each in enumerate(worst, start=1):
        end = sessions[-1] if each.back is None else each.back
        span = {"x0": str(each.first), "x1": str(end), "y0": 0, "y1": 1}
        shade = {"fillcolor": SHADED, "line": {"width": 0}, "layer": "below"}
        shapes.append({"type": "rect", "xref": "x", "yref": "paper", **span, **shade})
        notes.append(
            {"x": str(each.deepest), "y": each.depth, "text": str(place), "showarrow": False, "yshift": -9}
        )
    layout = {"shapes": shapes, "annotations": notes, "yaxis": {"tickformat": ".2~%"}}
    return {"data": [line], "layout": layout}


def rolling_figure(rolling: RollingSharpe) -> Figure:
    """Draw the rolling Sharpe ratio with its interval."""
    days = days_of(rolling.sessions)
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": days,
        "y": rounded(rolling.sharpe),
        "name": f"Sharpe ratio of {rolling.length} sessions",
        "line": {"color": NET, "width": 2},
    }
    data = [*band_traces(days, rolling.band, "95 % interval", NET_BAND), line]
    return {"data": data, "layout": {"yaxis": {"title": {"text": "annualised Sharpe ratio"}}}}


def activity_figure(windows: Sequence[WindowRecord]) -> Figure:
    """Draw exposure and turnover of each window, means over the repeats."""
    numbers = sorted({row.window for row in windows})
    names = [f"window {number}" for number in numbers]
    exposure = [_mean([row.exposure for row in windows if row.window == number]) for number in numbers]
    turnover = [_mean([row.turnover for row in windows if row.window == number]) for number in numbers]
    data = [
        {"type": "bar", "x": names, "y": exposure, "name": "exposure", "marker": {"color": NET}},
        {
            "type": "bar",
            "x": names,
            "y": turnover,
            "name": "turnover, in units of equity",
            "marker": {"color": HOLD},
            "xaxis": "x2",
            "yaxis": "y2",
        },
    ]
    layout = {
        "xaxis": {"domain": [0, 0.46]},
        "xaxis2": {"domain": [0.54, 1]},
        "yaxis2": {"anchor": "x2"},
    }
    return {"data": data, "layout": layout}


def windows_figure(windows: Sequence[WindowRecord]) -> Figure:
    """Draw the Sharpe ratio of each window and repeat, net and at zero cost."""
    names = [f"window {row.window}" for row in windows]
    marks = (
        ("net of costs", NET, [row.sharpe for row in windows], "circle"),
        ("zero cost", FREE, [row.sharpe_zero_cost for row in windows], "circle-open"),
    )
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": names,
            "y": rounded(values),
            "name": name,
            "marker": {"color": mark, "size": 11, "symbol": symbol, "line": {"width": 2, "color": mark}},
        }
        for name, mark, values, symbol in marks
    ]
    return {"data": data, "layout": {"yaxis": {"title": {"text": "Sharpe ratio"}}}}


def cost_figure(points: Sequence[tuple[float, float]]) -> Figure:
    """Draw the Sharpe ratio at multiples of the costs."""
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [multiple for multiple, _ in points],
        "y": rounded([sharpe for _, sharpe in points]),
        "line": {"color": NET, "width": 2},
        "showlegend": False,
    }
    axes = {
        "xaxis": {"title": {"text": "multiple of the costs"}},
        "yaxis": {"title": {"text": "Sharpe ratio"}},
    }
    return {"data": [line], "layout": axes}


def interval_figure(
    names: Sequence[str],
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    meaning: str,
    other: str,
) -> Figure:
    """Draw one bar a name, largest on top, beside the interval of a comparison."""
    order = np.argsort(values)
    shown = [names[place] for place in order]
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": shown,
        "x": rounded([values[p] for p in order]),
        "name": meaning,
        "marker": {"color": NET},
    }
    middle = [(low[p] + high[p]) / 2 for p in order]
    spread = [(high[p] - low[p]) / 2 for p in order]
    compared = {
        "type": "scatter",
        "mode": "markers",
        "y": shown,
        "x": rounded(middle),
        "name": other,
        "marker": {"color": HOLD, "size": 7},
        "error_x": {"type": "data", "array": rounded(spread), "color": HOLD, "thickness": 2},
    }
    return {"data": [bar, compared], "layout": {"bargap": 0.35}}


def band_traces(days: Sequence[str], band: Band, name: str, fill: str) -> list[dict[str, Any]]:
    """Return the two traces that shade the area between a lower and an upper line."""
    edge = {"type": "scatter", "mode": "lines", "x": list(days), "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        {**edge, "y": rounded(band.low), "showlegend": False},
        {**edge, "y": rounded(band.high), "fill": "tonexty", "fillcolor": fill, "name": name},
    ]


def luck_traces(curve: Curve, band: Band, name: str) -> list[dict[str, Any]]:
    """Return the luck band of a curve, from 1 on the day before its first session."""
    kept = thinned(len(curve.sessions) + 1)
    low, high = (np.concatenate(([1.0], edge))[kept] for edge in (band.low, band.high))
    return band_traces(days_of(curve.drawn[0][kept]), Band(low, high), name, SHADED)


def days_of(sessions: DateArray) -> list[str]:
    """Return sessions as ISO dates."""
    return [str(day) for day in sessions.astype("datetime64[D]")]


def rounded(values: Any) -> list[float | None]:
    """Return numbers for a figure, None where there is none or it is not finite."""
    found = [float("nan") if value is None else float(value) for value in values]
    return [round(value, FOUR) if np.isfinite(value) else None for value in found]


def _curve(name: str, curve: Curve, line: dict[str, Any], opacity: float = 1.0) -> dict[str, Any]:
    days, equity = curve.drawn
    kept = thinned(len(days))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": days_of(days[kept]),
        "y": rounded(equity[kept]),
        "name": name,
        "line": line,
        "opacity": opacity,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(sum(found) / len(found), FOUR) if found else None
