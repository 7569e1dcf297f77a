"""Figures over all windows: one function for agents and baselines, net of the risk-free rate."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.evaluate.metrics import WindowMetrics, equity_drawdown, sharpe_ratio
from optimize.evaluate.summary import WindowResult, summarise, summarise_figures

YEAR = 252.0


def made(equity: FloatArray, per_session: int = 4) -> WindowResult:
    """Return a window whose equity at every bar close is given."""
    closes = np.concatenate(([1.0], equity[per_session - 1 :: per_session]))
    returns = closes[1:] / closes[:-1] - 1.0
    metrics = WindowMetrics(
        sharpe=None, sharpe_zero_cost=None, total_return=float(equity[-1] - 1.0), max_drawdown=0.0,
        volatility=0.1, turnover=2.0, cost=0.01, trades=3, exposure=0.5, bars=len(equity),
        sessions=len(returns), max_drawdown_bars=equity_drawdown(equity),
        lowest=float(min(1.0, equity.min())), highest=float(max(1.0, equity.max())),
    )  # fmt: skip
    return WindowResult(metrics, returns, returns + 0.001, ruined=False)


def walk(seed: int) -> FloatArray:
    return np.cumprod(1.0 + 0.01 * np.random.default_rng(seed).standard_normal(40), dtype=np.float64)


def test_the_risk_free_rate_is_taken_off_every_sharpe_ratio() -> None:
    windows = [made(walk(1)), made(walk(2))]
    joined = np.concatenate([window.returns for window in windows])
    for rate in (0.0, 0.05):
        found = summarise([windows], YEAR, rate)
        assert found["sharpe"] == sharpe_ratio(joined, YEAR, rate)
        assert found["sharpe_zero_cost"] == sharpe_ratio(joined + 0.001, YEAR, rate)
    assert (found["trades"], found["cost"], found["turnover"]) == (6, 0.02, 4.0)
    assert found["best_session"] == joined.max()


def test_of_several_repeats_it_is_the_median() -> None:
    repeats = [[made(walk(seed)), made(walk(seed + 10))] for seed in (1, 2, 3)]
    alone = [summarise([windows], YEAR, 0.02)["sharpe"] for windows in repeats]
    assert summarise(repeats, YEAR, 0.02)["sharpe"] == np.median(alone)


@dataclass(frozen=True)
class Row:
    repeat: int
    total_return: float | None
    cost: float | None
    turnover: float | None
    trades: float | None


def test_stored_rows_have_the_figures_of_their_returns() -> None:
    repeats = [[made(walk(seed)), made(walk(seed + 10))] for seed in (1, 2, 3)]
    figures = [(repeat, window.metrics) for repeat, windows in enumerate(repeats) for window in windows]
    rows = [Row(repeat, m.total_return, m.cost, m.turnover, m.trades) for repeat, m in figures]
    whole = summarise(repeats, YEAR, 0.0)
    found = summarise_figures(rows)
    assert found.keys() == {"total_return", "cost", "turnover", "trades"}
    assert found == pytest.approx({key: whole[key] for key in found}, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_drawdown_of_bars_is_that_of_the_joined_equity(seed: int) -> None:
    first, second, third = walk(seed), walk(seed + 50), walk(seed + 100)
    joined = np.concatenate([first, first[-1] * second, first[-1] * second[-1] * third])
    found = summarise([[made(first), made(second), made(third)]], YEAR, 0.0)
    assert found["max_drawdown_bars"] == pytest.approx(equity_drawdown(joined), abs=1e-12)
    assert found["max_drawdown_bars"] <= found["max_drawdown"] + 1e-12


def test_results_of_an_older_version_have_no_drawdown_over_bars() -> None:
    window = made(walk(1))
    older = replace(window, metrics=replace(window.metrics, max_drawdown_bars=None))
    assert np.isnan(summarise([[older]], YEAR, 0.0)["max_drawdown_bars"])
