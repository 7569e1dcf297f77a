"""Further figures of a study for optuna-dashboard: costs, importance of keys, and its best trial."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from optimize.report.equity import Curve
from optimize.report.figures import laid_out
from optimize.report.html.losses import losses_of
from optimize.report.html.page import Figure
from optimize.report.html.series import luck_band, rolling_sharpe
from optimize.report.html.study import SearchedKey, importance_figure
from optimize.report.html.study_figures import cost_scatter
from optimize.report.html.trial_figures import drawdown_figure, equity_figure_of, rolling_figure
from optimize.results.records import RunRecord


def costs_figure(study: str, runs: Sequence[RunRecord]) -> Any:
    """Draw the net score of each trial against its zero-cost Sharpe ratio."""
    return _of_plain(cost_scatter(runs), f"net score and zero-cost Sharpe\n{study}")


def keys_figure(study: str, keys: Sequence[SearchedKey]) -> Any:
    """Draw the importance of each searched key beside that of shuffled scores."""
    return _of_plain(importance_figure(keys), f"importance of the searched keys\n{study}")


def best_figures(
    study: str, trial: int, curve: Curve, hold: Mapping[str, Curve], year: float, risk_free: float
) -> dict[str, Any]:
    """Draw the best trial by name: equity with its luck band, drawdowns, rolling Sharpe ratio."""
    title = f"{study}, trial {trial}"
    band = luck_band(curve.returns)
    losses = losses_of(curve)
    found = {
        "best": (equity_figure_of({0: curve}, 0, hold, None, band, ()), f"equity and luck band\n{title}"),
        "drawdown": (
            drawdown_figure(curve.sessions, losses.depth, losses.worst),
            f"loss from the peak\n{title}; {losses.meaning}",
        ),
    }
    rolling = rolling_sharpe(curve.sessions, curve.returns, year, risk_free)
    if rolling is not None:
        found["rolling"] = (rolling_figure(rolling), f"rolling Sharpe ratio\n{title}; band: 95 % interval")
    return {name: _of_plain(*each) for name, each in found.items()}


def _of_plain(figure: Figure, title: str) -> Any:
    """Return plain data as a Plotly figure in the colors of the others; a second title line is small.

    The first line is short, as the buttons of the dashboard cover the right half of a narrow figure's title.
    """
    first, _, second = escape(title).partition("\n")
    below = f"<br><sub>{second}</sub>" if second else ""
    return laid_out(go.Figure(data=figure["data"], layout=figure["layout"]), first + below)
