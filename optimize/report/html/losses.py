"""Losses from the peak: over bar closes where they are stored, else over session closes, with the worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.types import FloatArray
from optimize.report.equity import Curve
from optimize.report.format import percent
from optimize.report.html.page import Section, figure_html, paragraph, table_html
from optimize.report.html.series import Drawdown, bar_drawdowns, underwater, worst_drawdowns
from optimize.report.html.trial_figures import drawdown_figure

OVER_BARS = "over bar closes, the deepest of each session"
OVER_SESSIONS = "over session closes, as an older version did not store bar closes"


@dataclass(frozen=True, eq=False)
class Losses:
    """Loss from the highest equity so far, with the deepest drawdowns."""

    depth: FloatArray  # (S,) <= 0
    worst: Sequence[Drawdown]
    meaning: str


def losses_of(curve: Curve) -> Losses:
    """Return the losses of a curve at the finest level that its files hold."""
    if curve.levels is None:
        worst = worst_drawdowns(curve.sessions, curve.returns)
        return Losses(underwater(curve.returns), worst, OVER_SESSIONS)
    return Losses(curve.levels.drawdown, bar_drawdowns(curve.sessions, curve.levels), OVER_BARS)


def losses_section(curve: Curve) -> Section:
    """Return the section of a trial's page with the losses of the drawn repeat."""
    losses = losses_of(curve)
    figure = drawdown_figure(curve.sessions, losses.depth, losses.worst)
    drawn = figure_html(figure, f"loss from the peak {losses.meaning}", 260)
    return Section("Drawdown", drawn + _table(losses))


def _table(losses: Losses) -> str:
    rows = [
        [
            str(place),
            percent(each.depth),
            *map(_day, (each.first, each.deepest, each.back)),
            str(each.sessions),
        ]
        for place, each in enumerate(losses.worst, start=1)
    ]
    header = ["", "depth", "peak", "deepest", "back", "sessions"]
    table = table_html(header, rows) if rows else paragraph("It never lost from a peak.")
    return table + paragraph(f"Loss from the highest equity so far, {losses.meaning}.")


def _day(day: Any) -> str:
    return "not yet" if day is None else str(np.datetime64(day, "D"))
