import numpy as np
import pytest

from envs.types import DateArray, FloatArray
from optimize.evaluate.drawdowns import SessionLevels
from optimize.evaluate.metrics import max_drawdown, sharpe_error, sharpe_ratio, total_return
from optimize.report.html.series import (
    bar_drawdowns,
    cost_sensitivity,
    luck_band,
    monthly_returns,
    rolling_sharpe,
    thinned,
    underwater,
    worst_drawdowns,
)

YEAR = 252.0


def days(count: int) -> DateArray:
    return np.datetime64("2023-11-15") + np.arange(count)


def noise(count: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0.0, 0.01, count)


def test_the_luck_band_holds_19_of_20_paths_without_skill() -> None:
    band = luck_band(noise(120))
    ends = np.array([np.prod(1.0 + noise(120, seed)) for seed in range(1, 401)])
    inside = np.mean((band.low[-1] <= ends) & (ends <= band.high[-1]))
    assert 0.90 <= inside <= 0.99
    assert np.all(band.low <= band.high)


def test_flat_returns_have_a_band_without_width() -> None:
    band = luck_band(np.zeros(40))
    assert band.low.tolist() == band.high.tolist() == [1.0] * 40


def test_drawdowns_begin_at_a_peak_and_end_where_equity_is_back() -> None:
    returns = np.array([0.1, -0.1, 0.2, -0.2, -0.1, 0.05])
    sessions = days(6)
    worst, second = worst_drawdowns(sessions, returns)
    assert (worst.first, worst.deepest, worst.back, worst.sessions) == (sessions[2], sessions[4], None, 3)
    assert worst.depth == pytest.approx(max_drawdown(returns), rel=1e-12)
    assert (second.first, second.deepest, second.back, second.sessions) == (
        sessions[0], sessions[1], sessions[2], 1,
    )  # fmt: skip
    assert underwater(returns)[1] == pytest.approx(-0.1)
    assert worst_drawdowns(sessions[:2], np.array([0.1, 0.1])) == []


def test_the_rolling_sharpe_ratio_is_that_of_its_newest_sessions() -> None:
    returns = noise(200)
    rolling = rolling_sharpe(days(200), returns, YEAR, 0.02)
    assert rolling is not None
    last = returns[-rolling.length :]
    assert rolling.sharpe[-1] == sharpe_ratio(last, YEAR, 0.02)
    error = sharpe_error(last - 0.02 / YEAR, YEAR)
    assert rolling.band.high[-1] - rolling.sharpe[-1] == pytest.approx(1.96 * error)
    assert rolling.sessions[-1] == days(200)[-1]
    assert rolling_sharpe(days(50), noise(50), YEAR, 0.0) is None


def test_months_compound_to_their_year() -> None:
    returns = noise(60)
    table = monthly_returns(days(60), returns)
    assert sorted(table[2023]) == [0, 11, 12]
    assert table[2023][11] == pytest.approx(total_return(returns[:16]))
    whole = (1 + table[2023][0]) * (1 + table[2024][0]) - 1
    assert whole == pytest.approx(total_return(returns))


def test_cost_sensitivity_is_measured_at_none_and_at_full_costs() -> None:
    returns = noise(60)
    free = returns + 0.001
    points = dict(cost_sensitivity(returns, free, YEAR, 0.0))
    assert points[0.0] == sharpe_ratio(free, YEAR)
    assert points[1.0] == pytest.approx(sharpe_ratio(returns, YEAR), rel=1e-12)
    assert points[2.0] < points[1.0]


def test_a_thinned_line_keeps_its_ends() -> None:
    places = thinned(10_000)
    assert (places[0], places[-1], len(places)) == (0, 9_999, 500)
    assert thinned(3).tolist() == [0, 1, 2]


def test_drawdowns_over_bar_closes_begin_and_end_at_peaks_within_sessions() -> None:
    levels = SessionLevels(  # bars: 1.1 | 1.2 0.9 | 1.0 1.3 1.17 | 1.2 | 1.4 1.3
        drawdown=np.array([0.0, 0.9 / 1.2 - 1, 1.0 / 1.2 - 1, 1.2 / 1.3 - 1, 1.3 / 1.4 - 1]),
        lowest=np.array([1.1, 0.9, 1.0, 1.2, 1.3]),
        highest=np.array([1.1, 1.2, 1.3, 1.2, 1.4]),
    )
    day = days(5)
    found = bar_drawdowns(day, levels)
    assert [(each.first, each.deepest, each.back) for each in found] == [
        (day[1], day[1], day[2]),  # it began after the peak of its own session
        (day[2], day[3], day[4]),
        (day[4], day[4], None),
    ]
    assert [each.depth for each in found] == [levels.drawdown[1], levels.drawdown[3], levels.drawdown[4]]


@pytest.mark.parametrize("seed", range(6))
def test_the_worst_drawdown_over_bar_closes_is_that_of_every_bar(seed: int) -> None:
    equity = np.cumprod(1.0 + 0.01 * np.random.default_rng(seed).standard_normal((300, 8))).reshape(300, 8)
    peaks = np.maximum.accumulate(np.maximum(equity.ravel(), 1.0)).reshape(equity.shape)
    loss = equity / peaks - 1.0
    found = bar_drawdowns(days(300), SessionLevels(loss.min(axis=1), equity.min(axis=1), equity.max(axis=1)))
    lowest = int(np.argmin(loss))
    top = int(np.argmax(equity.ravel()[:lowest]))
    later = np.flatnonzero(equity.ravel()[lowest:] > equity.ravel()[top])
    worst = found[0]
    assert worst.depth == loss.min()
    assert (worst.first, worst.deepest) == (days(300)[top // 8], days(300)[lowest // 8])
    assert worst.back == (days(300)[(lowest + later[0]) // 8] if len(later) else None)
