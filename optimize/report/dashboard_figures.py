"""Further figures of a study for optuna-dashboard: costs, importance of keys, and its best trial."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from optimize.report.equity import Curve
from optimize.report.figures import laid_out
from optimize.report.html.page import Figure
from optimize.report.html.series import luck_band, rolling_sharpe, underwater, worst_drawdowns
from optimize.report.html.study import SearchedKey, importance_figure
from optimize.report.html.study_figures import cost_scatter
from optimize.report.html.trial_figures import drawdown_figure, equity_figure_of, rolling_figure
from optimize.results.records import RunRecord


def costs_figure(study: str, runs: Sequence[RunRecord]) -> Any:
    """Draw the net score of each trial against its zero-cost Sharpe ratio."""
    return _of_plain(cost_scatter(runs), f"{study}: net score against zero-cost Sharpe ratio")


def keys_figure(study: str, keys: Sequence[SearchedKey]) -> Any:
    """Draw the importance of each searched key beside that of shuffled scores."""
    return _of_plain(importance_figure(keys), f"{study}: importance of the searched keys")


def best_figures(
    study: str, trial: int, curve: Curve, hold: Mapping[str, Curve], year: float, risk_free: float
) -> dict[str, Any]:
    """Draw the best trial by name: equity with its luck band, drawdowns, rolling Sharpe ratio."""
    title = f"{study}, trial {trial}"
    band = luck_band(curve.returns)
    worst = worst_drawdowns(curve.sessions, curve.returns)
    found = {
        "best": (equity_figure_of({0: curve}, 0, hold, None, band, ()), f"{title}: equity and luck band"),
        "drawdown": (
            drawdown_figure(curve.sessions, underwater(curve.returns), worst),
            f"{title}: loss from the peak",
        ),
    }
    rolling = rolling_sharpe(curve.sessions, curve.returns, year, risk_free)
    if rolling is not None:
        found["rolling"] = (rolling_figure(rolling), f"{title}: rolling Sharpe ratio, 95 % interval")
    return {name: _of_plain(*each) for name, each in found.items()}


def _of_plain(figure: Figure, title: str) -> Any:
    """Return plain data as a Plotly figure with a title, in the colors of the other figures."""
    return laid_out(go.Figure(data=figure["data"], layout=figure["layout"]), escape(title))
