"""Equity pictures of spans of every length."""

from pathlib import Path

import numpy as np
import pytest

from optimize.report.equity import Curve, equity_axis, write_picture
from optimize.report.figures import equity_figure
from optimize.report.html.series import luck_band
from optimize.report.html.trial_figures import equity_figure_of

DAYS = np.datetime64("2020-01-24", "D") + np.arange(4)
GROWN = Curve(DAYS, np.array([1.0, 0.5, 0.5, 0.1]))
LEVEL = Curve(DAYS, np.array([0.1, -0.1, 0.2, 0.0]))
RUINED = Curve(DAYS, np.array([5.0, -1.0, 0.0, 0.0]))


@pytest.mark.parametrize("days", [1, 20, 200, 900, 1184, 1400, 3000])
def test_dates_of_every_span_have_a_fitting_interval(tmp_path: Path, days: int) -> None:
    sessions = np.datetime64("2020-01-24", "D") + np.arange(days)
    write_picture(tmp_path / "equity.png", "title", "trial 1", {0: Curve(sessions, np.zeros(days))}, {}, [])
    assert (tmp_path / "equity.png").stat().st_size  # a missing interval is a warning, which fails the test


def test_equity_that_moves_far_has_a_labelled_logarithmic_axis(tmp_path: Path) -> None:
    logarithmic, linear = "equity, from 1 (logarithmic)", "equity, from 1"
    assert equity_axis([LEVEL]) == (False, linear)
    assert equity_axis([LEVEL, GROWN]) == (True, logarithmic)
    assert equity_axis([GROWN, RUINED]) == (False, linear)  # there is no logarithm of zero
    for curve, kind, title in ((LEVEL, None, linear), (GROWN, "log", logarithmic)):
        axis = equity_figure_of({0: curve}, 0, {}, None, luck_band(curve.returns), [])["layout"]["yaxis"]
        assert (axis.get("type"), axis["title"]["text"]) == (kind, title)
        drawn = equity_figure("study", {"trial 1": curve}, {}).layout.yaxis
        assert (drawn.type, drawn.title.text) == (kind, title)
        write_picture(tmp_path / "equity.png", "title", "trial 1", {0: curve}, {}, [])
