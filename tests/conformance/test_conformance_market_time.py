"""Nothing is seen, filled or marked before its own time, on any grids of the symbols.

Every bar is sampled from one path of a random walk on a grid of minutes, so that changing the path before or
after a moment shows which part of it a value of the market depends on.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from envs.types import FloatArray, Market
from optimize.data.bars import join_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.market import market_of
from optimize.data.timeframes import HOUR_NS, MINUTE_NS
from optimize.errors import BadInputError
from tests.conformance.grids import (
    BOUND,
    CASES,
    FEATURE,
    PATH,
    START,
    Case,
    at,
    bars_of,
    every,
    hours_of_day,
    midnights,
    walk,
)
from tests.optimize.data.samples import rows_of, stamp

SERIES = ("timestamp", "bar_end", "open", "high", "low", "close", "tradable", "features", "session")
BUILT = {name: case.market(case.parts(PATH)) for name, case in CASES.items()}
NAMED = pytest.mark.parametrize("name", CASES)


def moments(market: Market, count: int = 12) -> list[int]:
    """Return moments at ends of rows, and some minutes off them."""
    rng = np.random.default_rng(3)
    ends = rng.choice(market.bar_end[market.n_bars // 3 :], count, replace=False)
    return [int(end) for end in ends] + [int(end) + 7 * MINUTE_NS for end in ends[: count // 2]]


@NAMED
def test_rows_follow_one_another(name: str) -> None:
    market = BUILT[name]
    assert market.n_bars > 100
    assert (market.timestamp < market.bar_end).all()
    assert (market.bar_end[:-1] <= market.timestamp[1:]).all()


@NAMED
def test_observations_and_marks_use_only_data_known_at_the_end_of_their_bar(name: str) -> None:
    case, market = CASES[name], BUILT[name]
    for moment in moments(market):
        later = np.where(np.arange(len(PATH)) * MINUTE_NS + START > moment, 1.5 * walk(1), PATH)
        other = case.market(case.parts(later))
        known = market.bar_end <= moment
        assert known.any()
        for seen in ("features", "close", "high", "low", "tradable"):
            np.testing.assert_array_equal(getattr(other, seen)[known], getattr(market, seen)[known])
        assert not np.array_equal(other.close, market.close)


@NAMED
def test_an_order_is_filled_at_a_price_of_after_its_decision(name: str) -> None:
    case, market = CASES[name], BUILT[name]
    for moment in moments(market):
        earlier = np.where(np.arange(len(PATH)) * MINUTE_NS + START < moment, 1.5 * walk(1), PATH)
        other = case.market(case.parts(earlier))
        decided = np.append(False, market.bar_end[:-1] >= moment)[:, None] & market.tradable
        assert decided.any() or moment > market.timestamp[-1]
        np.testing.assert_array_equal(other.open[decided], market.open[decided])


@NAMED
def test_bars_known_by_a_moment_make_the_rows_known_by_it(name: str) -> None:
    """Rows to which a symbol without a bar might still add one are not known until bars are that late."""
    case, market = CASES[name], BUILT[name]
    whole = case.parts(PATH)
    for moment in moments(market):
        parts = [rows_of(part, part.bar_end <= moment) for part in whole]
        cut = case.market(parts)
        known_until = max(int(part.bar_end[-1]) for part in parts)
        first = max(cut.timestamp[0], market.timestamp[0])  # higher timeframes settle by the longest gap
        known = (market.bar_end <= known_until) & (market.timestamp >= first)
        same = cut.timestamp >= first
        for field in SERIES:
            np.testing.assert_array_equal(getattr(cut, field)[same], getattr(market, field)[known])


def fill_to_fill(market: Market) -> FloatArray:
    """Return the log return (T, A) that a decision of each row earns: from its fill to the next one."""
    price = np.log(market.open)
    earned = np.zeros_like(price)
    earned[:-2] = np.where(market.tradable[1:-1] & market.tradable[2:], price[2:] - price[1:-1], 0.0)
    return earned


def standard_errors(earned: FloatArray) -> float:
    """Return how many standard errors the mean is away from zero; a sure loss is a sure gain, sold."""
    return float(abs(earned.mean()) / (earned.std() + 1e-12) * np.sqrt(len(earned)))


def rule(market: Market) -> FloatArray:
    """Buy assets that lag behind the others, sell those ahead of them."""
    price = np.log(market.close)
    return np.asarray(np.sign(price.mean(axis=1, keepdims=True) - price))


def ridge(market: Market) -> FloatArray:
    """Trade the sign of a ridge regression of earnings on all that is seen, fitted on the first half."""
    earned = fill_to_fill(market)
    seen = market.features.reshape(market.n_bars, -1).astype(np.float64)
    gaps = np.log(market.close[:, 1:] / market.close[:, :1])
    seen = np.hstack([seen, gaps, np.vstack([gaps[:1] * 0, np.diff(gaps, axis=0)])])
    half = market.n_bars // 2
    seen = (seen - seen[:half].mean(axis=0)) / (seen[:half].std(axis=0) + 1e-12)
    gram = seen[:half].T @ seen[:half] + half * 0.01 * np.eye(seen.shape[1])
    forecast = seen @ np.linalg.solve(gram, seen[:half].T @ earned[:half])
    forecast[:half] = 0.0
    return np.asarray(np.sign(forecast))


@NAMED
@pytest.mark.parametrize("policy", [rule, ridge])
def test_nothing_is_earned_on_one_random_walk(name: str, policy: Callable[[Market], FloatArray]) -> None:
    """Gross of costs, over rows of any grids: within BOUND standard errors of nothing."""
    market = BUILT[name]
    earned = (policy(market) * fill_to_fill(market)).sum(axis=1)
    assert standard_errors(earned) < BOUND


def test_the_measure_sees_a_leak() -> None:
    """One symbol's close of the next row, seen now, is far beyond the bound."""
    market = BUILT["same hours, some lost"]
    close = market.close.copy()
    close[:-1, 0] = market.close[1:, 0]
    assert (
        standard_errors((rule(replace(market, close=close)) * fill_to_fill(market)).sum(axis=1)) > 2 * BOUND
    )


OVERLAPPING = {
    "half past beside whole hours": ("1h", every("1h"), every("1h", 30)),
    "stocks at half past beside crypto": ("1h", every("1h"), hours_of_day(every("1h", 30), 14, 21)),
    "ten minutes apart": ("30m", every("30m"), every("30m", 10)),
    "four hours, two apart": ("4h", every("4h"), every("4h", 120)),
    "a stray bar": ("1h", every("1h"), np.sort(np.append(every("1h"), every("1h")[40] + 37 * MINUTE_NS))),
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_intraday_bars_that_overlap_without_beginning_together_are_refused(name: str) -> None:
    timeframe, *grids = OVERLAPPING[name]
    case = Case(timeframe, tuple(grids), timeframe)
    with pytest.raises(
        BadInputError, match=r"overlap without beginning together: S\d begins one at"
    ) as caught:
        case.market(case.parts(PATH))
    assert "severity" not in str(caught.value)


def test_a_stray_bar_of_one_symbol_is_refused() -> None:
    hours = every("1h")
    grid = np.sort(np.append(hours, hours[40] + 37 * MINUTE_NS))
    with pytest.raises(BadInputError, match="1 bar of 1h begin inside the bar before"):
        market_of(bars_of(PATH, "X", grid, "1h"), "1h", FEATURE, SessionSpec(calendar="24/7"))


def test_two_daily_bars_of_one_date_are_refused() -> None:
    days = midnights("UTC")
    twice = np.sort(np.append(days, days[50] + 15 * HOUR_NS))
    with pytest.raises(BadInputError, match="S1 has two daily bars of one date"):
        join_bars(Case("1d", (days, twice), "1d").parts(PATH))


def test_dates_of_crypto_and_new_york_share_a_row_known_at_the_later_end() -> None:
    market = BUILT["UTC days and New York weekdays"]
    row = int(np.searchsorted(market.bar_end, stamp("2024-07-03T04:00")))
    assert market.bar_end[row] == stamp(
        "2024-07-03T04:00"
    )  # midnight of New York in summer, after 2024-07-02
    assert market.tradable[row].all()
    assert market.close[row, 0] == at(PATH, np.array([stamp("2024-07-03T00:00")]))[0]
    assert market.close[row, 1] == at(PATH, np.array([stamp("2024-07-03T04:00")]))[0]
    assert market.open[row + 1, 0] == market.close[row + 1, 0]  # crypto opened before the row was known
    assert market.open[row + 1, 1] == at(PATH, np.array([stamp("2024-07-03T04:00")]))[0]
