"""Drawdowns at bar level by session: of one window, joined over windows, and equal to the stored figures."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.evaluate.drawdowns import SessionLevels, session_levels
from optimize.evaluate.metrics import WindowMetrics, equity_drawdown
from optimize.evaluate.summary import WindowResult, bar_drawdown, joined_levels

SESSIONS = 12
CLOSED = 5  # a session without bars


def walk(seed: int) -> tuple[FloatArray, Any]:
    """Return equity at the bar closes of a window, and the session of each bar."""
    generator = np.random.default_rng(seed)
    session = np.repeat(np.delete(np.arange(SESSIONS), CLOSED), 7)
    equity = np.cumprod(1.0 + 0.02 * generator.standard_normal(len(session)), dtype=np.float64)
    return equity, session


def levels_of(equity: FloatArray, session: Any, first: int = 3) -> SessionLevels:
    market: Any = SimpleNamespace(session=np.concatenate(([0, 1], session + first)))
    evaluation: Any = SimpleNamespace(bar=2 + np.arange(len(equity)), equity=equity)
    window: Any = SimpleNamespace(test_sessions=(first, first + SESSIONS))
    return session_levels(market, evaluation, window)


def window_of(seed: int) -> WindowResult:
    equity, session = walk(seed)
    metrics = WindowMetrics(
        sharpe=None, sharpe_zero_cost=None, total_return=float(equity[-1] - 1.0), max_drawdown=0.0,
        volatility=0.1, turnover=2.0, cost=0.01, trades=3, exposure=0.5, bars=len(equity), sessions=SESSIONS,
        max_drawdown_bars=equity_drawdown(equity), lowest=float(np.min(equity, initial=1.0)),
        highest=float(np.max(equity, initial=1.0)),
    )  # fmt: skip
    returns = np.zeros(SESSIONS)
    return WindowResult(metrics, returns, returns, ruined=False, levels=levels_of(equity, session))


@pytest.mark.parametrize("seed", range(5))
def test_each_session_has_its_deepest_loss_from_the_peak_of_the_window(seed: int) -> None:
    equity, session = walk(seed)
    levels = levels_of(equity, session)
    peak, last = 1.0, 1.0
    for number in range(SESSIONS):
        losses, seen = [], equity[session == number].tolist() or [last]
        for value in seen:
            peak, last = max(peak, value), value
            losses.append(value / peak - 1.0)
        assert levels.drawdown[number] == min(losses)
        assert (levels.lowest[number], levels.highest[number]) == (min(seen), max(seen))
    assert levels.drawdown.min() == equity_drawdown(equity)


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_the_worst_of_joined_windows_is_the_stored_drawdown_to_the_last_digit(seed: int) -> None:
    windows = [window_of(seed + number) for number in range(4)]
    joined = joined_levels(windows)
    assert joined is not None
    assert joined.drawdown.min() == bar_drawdown(windows)
    equity = 1.0
    for number, window in enumerate(windows):
        assert window.levels is not None
        part = joined.highest[number * SESSIONS : (number + 1) * SESSIONS]
        np.testing.assert_allclose(part, equity * window.levels.highest, rtol=1e-12)
        equity *= 1.0 + window.metrics.total_return


def test_a_window_without_bar_level_leaves_none_for_all() -> None:
    assert joined_levels([window_of(1), replace(window_of(2), levels=None)]) is None
    assert joined_levels([]) is None
