"""The figures of a run over all windows, as the terminal has them."""

from types import SimpleNamespace
from typing import Any

from optimize.cli.window_results import figure_lines
from optimize.report.tables import PLAIN_WIDTH
from optimize.study.launch.markets import traded_by


def test_the_figures_over_all_windows_fit_a_pipe_in_plain_characters() -> None:
    lines = figure_lines({"sharpe": -3.216, "cagr": -0.229, "holding_bars": 8.0})
    assert max(map(len, lines)) <= PLAIN_WIDTH
    shown = "; ".join(lines)
    assert shown.isascii()
    assert "Sharpe ratio -3.22" in shown
    assert "annual growth -22.9%" in shown
    assert "beta" not in shown  # it was not measured


def test_the_turnover_of_random_policies_is_their_mean_as_in_the_database() -> None:
    drawn: Any = SimpleNamespace(random=SimpleNamespace(turnover=8.0), windows=())
    held: Any = SimpleNamespace(random=None, windows=[SimpleNamespace(turnover=1.5)] * 2)
    assert (traded_by(drawn), traded_by(held)) == (8.0, 3.0)
