from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.types import FloatArray, Market
from optimize.errors import NumericError
from optimize.evaluate.metrics import (
    alpha_beta,
    by_year,
    cagr,
    calmar_ratio,
    drawdown_length,
    hit_rate,
    max_drawdown,
    measure,
    profit_factor,
    session_returns,
    sharpe_ratio,
    sortino_ratio,
    tail_ratio,
    total_return,
    volatility,
)
from optimize.evaluate.rollout import Evaluation
from optimize.evaluate.windows import Window, WindowDates
from tests.markets import make_market


@pytest.mark.market_data
def test_golden_performance_of_googl(market_data: Path) -> None:
    bars = pd.read_parquet(market_data / "googl_1d_gymanytrading_2009_2018.parquet")
    close = np.asarray(bars["close"], dtype=np.float64)
    returns = close[1:] / close[:-1] - 1.0
    assert len(returns) == 2334
    assert total_return(returns) == pytest.approx(5.4212726123, abs=1e-10)
    assert sharpe_ratio(returns, 252) == pytest.approx(0.9613077701, abs=1e-10)
    assert sortino_ratio(returns, 252) == pytest.approx(1.4602429118, abs=1e-10)
    assert max_drawdown(returns) == pytest.approx(-0.3042361521, abs=1e-10)
    assert cagr(returns, 252) == pytest.approx(0.2223572871, abs=1e-10)
    assert calmar_ratio(returns, 252) == pytest.approx(0.7308706922, abs=1e-10)
    assert volatility(returns, 252) == pytest.approx(0.2382043312, abs=1e-10)


def test_performance_by_hand() -> None:
    returns = np.array([0.10, -0.05, 0.02, -0.01])
    assert total_return(returns) == pytest.approx(1.1 * 0.95 * 1.02 * 0.99 - 1)
    assert max_drawdown(returns) == pytest.approx(-0.05)
    assert max_drawdown(np.array([-0.2, 0.1])) == pytest.approx(-0.2)  # the start is a peak
    assert sharpe_ratio(returns, 4) == pytest.approx(0.015 / np.std(returns, ddof=1) * 2)
    assert sharpe_ratio(returns, 4, 0.02) == pytest.approx(0.01 / np.std(returns, ddof=1) * 2)
    assert sortino_ratio(returns, 4) == pytest.approx(0.015 / np.sqrt((0.05**2 + 0.01**2) / 4) * 2)
    assert cagr(returns, 2) == pytest.approx(np.sqrt(1 + total_return(returns)) - 1)


def test_gains_losses_and_tails_by_hand() -> None:
    returns = np.array([0.10, -0.05, 0.0, 0.02, -0.01])
    assert hit_rate(returns) == 0.5  # a session without a position counts neither way
    assert profit_factor(returns) == pytest.approx(0.12 / 0.06)
    assert tail_ratio(np.arange(-100, 101) / 1000.0) == pytest.approx(1.0)
    assert np.isnan([hit_rate(np.zeros(3)), profit_factor(np.ones(3)), tail_ratio(np.zeros(3))]).all()


def test_the_longest_time_below_a_peak() -> None:
    assert drawdown_length(np.array([0.1, 0.1, 0.1])) == 0
    assert drawdown_length(np.array([-0.1, 0.05, 0.3, -0.1, 0.01, 0.01, 0.01])) == 4  # it has not recovered
    assert drawdown_length(np.array([-0.1, -0.1, 0.5, -0.1])) == 2
    assert drawdown_length(np.zeros(5)) == 0


def test_alpha_and_beta_of_a_levered_market() -> None:
    market = np.random.default_rng(3).normal(0.0, 0.01, 400)
    assert list(alpha_beta(2.0 * market + 0.0005, market, 250.0)) == pytest.approx([0.125, 2.0])
    levered = 2.0 * (market - 0.0001) + 0.0001
    assert list(alpha_beta(levered, market, 250.0, risk_free=0.025)) == pytest.approx([0.0, 2.0], abs=1e-12)
    assert np.isnan(alpha_beta(market, np.zeros(400), 250.0)).all()


def test_years_divide_the_sessions() -> None:
    sessions = np.arange("2023-12-30", "2024-01-04", dtype="datetime64[D]")
    returns = np.array([0.1, -0.1, 0.02, 0.01, -0.03])
    first, second = by_year(returns, sessions, 365.0)
    assert (first.year, first.sessions, first.hit_rate) == (2023, 2, 0.5)
    assert first.total_return == pytest.approx(-0.01)
    assert (second.year, second.sessions) == (2024, 3)
    assert second.sharpe == sharpe_ratio(returns[2:], 365.0)
    assert second.max_drawdown == pytest.approx(-0.03)


@pytest.mark.parametrize("returns", [np.zeros(30), np.full(30, 0.01), np.full(7, 0.1 / 3), np.array([0.02])])
def test_zero_variance_has_no_sharpe(returns: FloatArray) -> None:
    assert np.isnan(sharpe_ratio(returns, 252))


def test_no_downside_has_no_sortino_and_no_calmar() -> None:
    assert np.isnan(sortino_ratio(np.array([0.0, 0.01]), 252))
    assert np.isnan(calmar_ratio(np.array([0.0, 0.01]), 252))
    assert np.isnan(cagr(np.array([]), 252))
    assert np.isnan(volatility(np.array([0.1]), 252))


def window_of(first: int, last: int, sessions: tuple[int, int]) -> Window:
    day = date(2024, 1, 1)
    dates = WindowDates(0, day, day, day, day, sessions[1] - sessions[0])
    return Window(0, 0, first - 1, first, last, 0, sessions, dates)


def evaluation_of(first: int, equity: list[float], ruined: bool = False) -> Evaluation:
    count = len(equity)
    half, none = np.full(count, 0.5), np.zeros((count, 2))
    return Evaluation(
        bar=np.arange(first, first + count),
        equity=np.array(equity),
        weight=np.column_stack([half, -half]),
        turnover=half,
        commission=np.full(count, 0.001),
        slippage=np.full(count, 0.002),
        financing=np.full(count, -0.0005),
        interest=np.full(count, 0.0005),
        liquidated=np.zeros(count, dtype=np.bool_),
        fills=np.full(count, 2, dtype=np.int64),
        quantity=none + 1.0,
        price=none + 100.0,
        cost=none + 0.0015,
        forced=np.tile([True, False], (count, 1)),
        exit_quantity=none,
        exit_price=none,
        exit_cost=none,
        action=np.zeros((count, 2), dtype=np.float32),
        ruined=ruined,
    )


def market_with_sessions(session: list[int], sessions: int) -> Market:
    market = make_market(np.full(len(session), 100.0))
    dates = np.arange("2024-01-01", np.datetime64("2024-01-01") + sessions, dtype="datetime64[D]")
    return replace(market, session=np.array(session), session_date=dates)


def test_session_returns_use_last_closes_and_count_every_session() -> None:
    # sessions 1..5 are tested; 2 and 5 have no bars
    market = market_with_sessions([0, 0, 1, 1, 3, 4, 4], sessions=6)
    evaluation = evaluation_of(2, [1.10, 1.21, 1.10, 1.20, 1.32])
    returns = session_returns(market, evaluation, window_of(2, 6, (1, 6)))
    assert returns == pytest.approx([0.21, 0.0, 1.10 / 1.21 - 1, 0.2, 0.0])


def test_leading_session_without_bars_returns_zero() -> None:
    market = market_with_sessions([0, 0, 2], sessions=3)
    returns = session_returns(market, evaluation_of(2, [1.05]), window_of(2, 2, (1, 3)))
    assert returns == pytest.approx([0.0, 0.05])


def test_measure_by_hand() -> None:
    market = market_with_sessions([0, 1, 2, 2], sessions=3)
    window = window_of(1, 3, (1, 3))
    metrics = measure(
        market, window, evaluation_of(1, [1.1, 1.2, 0.99]), evaluation_of(1, [1.1, 1.1, 1.1]), 365.0
    )
    returns = np.array([0.1, -0.1])
    assert metrics.sharpe == pytest.approx(0.0, abs=1e-12)
    assert metrics.sharpe_zero_cost == pytest.approx(0.05 / np.std([0.1, 0.0], ddof=1) * np.sqrt(365))
    assert metrics.total_return == pytest.approx(-0.01)
    assert metrics.max_drawdown == pytest.approx(-0.1)
    assert metrics.volatility == pytest.approx(np.std(returns, ddof=1) * np.sqrt(365))
    assert metrics.cost == pytest.approx(3 * 0.003)  # the interest earned is no cost
    assert (metrics.trades, metrics.forced_exits, metrics.bars, metrics.sessions) == (6, 3, 3, 2)
    assert (metrics.turnover, metrics.exposure) == (1.5, 1.0)
    assert (metrics.positions, metrics.holding_bars, metrics.largest_exposure) == (2, 3.0, 1.0)


def test_flat_has_no_sharpe() -> None:
    market = market_with_sessions([0, 1, 2], sessions=3)
    flat = evaluation_of(1, [1.0, 1.0])
    metrics = measure(market, window_of(1, 2, (1, 3)), flat, flat, 365.0)
    assert metrics.sharpe is None
    assert metrics.sharpe_zero_cost is None


def test_impossible_equity_is_refused_unless_ruined() -> None:
    market, window = market_with_sessions([0, 1, 2], sessions=3), window_of(1, 2, (1, 3))
    sound = evaluation_of(1, [1.0, 1.1])
    for equity in ([1.0, -0.1], [0.0, 0.0], [1.0, np.inf], [np.nan, 1.0]):
        with pytest.raises(NumericError, match="window 0"):
            measure(market, window, evaluation_of(1, equity), sound, 365.0)
    ruined = measure(market, window, evaluation_of(1, [0.0, 0.0], ruined=True), sound, 365.0)
    assert ruined.total_return == -1.0
    assert ruined.max_drawdown == -1.0
