"""Forced exits by hand: at the first open from the exit time on, else at the session's last close."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.spec import EnvSpec
from envs.types import Market
from tests.envs.environments import make_env, play, with_exits
from tests.markets import make_market

# two sessions, bars 0..3 and 4..7, whose exit falls on the open of bars 2 and 6; bar 8 begins a third
CLOSE = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0]
OPEN = [10.0, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16.5, 17.5]
MARKET = with_exits(make_market(CLOSE, open=OPEN), [2, 3, 6, 7], [3, 7])
NO_EXIT_BAR = with_exits(make_market(CLOSE, open=OPEN), [6, 7], [3, 7])
LONG, FLAT, SHORT = 2, 1, 0
CHOICE = EnvSpec(action="discrete")


def traded_bars(traded: NDArray[Any]) -> list[int]:
    """Return the signs of the units that each step traded of the first asset."""
    return [int(sign) for sign in np.sign(traded[:, 0])]


@pytest.mark.parametrize("env", [CHOICE, EnvSpec()])
def test_orders_at_the_open_exit_at_the_open_and_return_next_session(env: EnvSpec) -> None:
    actions = np.full(8, LONG) if env.action == "discrete" else np.ones((8, 1))
    steps = play(make_env(MARKET, env=env), actions)
    # bar 1 buys at 10.5, bar 2 sells at 11.5, bar 3 opens nothing; bar 4 buys at 13.5, bar 6 sells at 15.5
    assert traded_bars(steps.traded) == [1, -1, 0, 1, 0, -1, 0, 0]
    assert steps.forced[:, 0].tolist() == [False, True, False, False, False, True, False, False]
    first = 11.5 / 10.5
    np.testing.assert_allclose(
        steps.equity,
        [11 / 10.5, first, first, *(first * p / 13.5 for p in (14, 15, *[15.5] * 3))],
        rtol=1e-12,
    )
    assert (steps.exit_quantity == 0).all()
    assert (steps.exit_price == 0).all()


def test_orders_at_the_close_exit_at_the_close_before() -> None:
    steps = play(make_env(MARKET, env=replace(CHOICE, fill="close")), np.full(8, LONG))
    # close 0 buys, close 1 sells, closes 2 and 3 open nothing; close 4 buys, close 5 sells, 6 and 7 nothing
    assert traded_bars(steps.traded) == [1, -1, 0, 0, 1, -1, 0, 0]
    assert steps.forced[:, 0].tolist() == [False, True, False, False, False, True, False, False]
    np.testing.assert_allclose(steps.equity, [1.1, 1.1, 1.1, 1.1, *[1.1 * 15 / 14] * 4], rtol=1e-12)
    assert (steps.exit_quantity == 0).all()


def test_a_session_without_its_exit_bar_closes_at_its_last_close() -> None:
    cost = CostSpec(commission_bps=10.0, slippage_bps=20.0, borrow_rate=0.0, short_rate=0.0)
    steps = play(make_env(NO_EXIT_BAR, env=CHOICE, cost=cost), np.full(8, SHORT))
    # sells 1 / 10.5 at 10.5, buys it back at 13: 13 / 10.5 is slippage x 0.002, commission x 1.002 x 0.001
    assert traded_bars(steps.traded) == [-1, 0, 0, -1, 0, 1, 0, 0]
    assert traded_bars(steps.exit_quantity) == [0, 0, 1, 0, 0, 0, 0, 0]
    bought = 13 / 10.5
    assert steps.exit_quantity[2, 0] == pytest.approx(1 / 10.5, rel=1e-12)
    assert steps.exit_price[2, 0] == 13.0
    assert steps.exit_slippage[2, 0] == pytest.approx(bought * 0.002, rel=1e-12)
    assert steps.exit_commission[2, 0] == pytest.approx(bought * 1.002 * 0.001, rel=1e-12)
    sold = 1.0 - 0.002 - 0.998 * 0.001
    assert steps.equity[2] == pytest.approx(1.0 + sold - bought * (1 + 0.002 + 0.001002), rel=1e-12)
    assert steps.equity[2] == steps.cash[2]
    assert steps.weight[2, 0] == steps.quantity[2, 0] == 0.0
    before = steps.equity[2] + steps.exit_slippage[2, 0] + steps.exit_commission[2, 0]
    assert steps.turnover[2] == pytest.approx(bought / before, rel=1e-12)
    assert steps.reward[2] == pytest.approx(np.log(steps.equity[2] / steps.equity[1]), rel=1e-12)


@pytest.mark.parametrize(("fill", "bought", "idle"), [("open", 2, 3), ("close", 2, 3)])
def test_the_last_bar_may_be_entered_and_is_left(fill: str, bought: int, idle: int) -> None:
    actions = [FLAT, FLAT, LONG, LONG, FLAT, FLAT, FLAT, FLAT]
    steps = play(make_env(NO_EXIT_BAR, env=replace(CHOICE, fill=fill)), actions)
    price = 12.5 if fill == "open" else 12.0
    assert steps.price[bought, 0] == price
    assert steps.exit_quantity[bought, 0] == -steps.traded[bought, 0] < 0.0
    assert steps.equity[bought] == pytest.approx(13.0 / price, rel=1e-12)
    assert steps.turnover[bought] == pytest.approx(2.0, rel=1e-12)  # in at 1, out at all there is
    # at the open a new session begins and is long; the close that ends the session opens nothing
    assert (steps.traded[idle, 0] > 0.0) == (fill == "open")


def test_an_exit_is_forced_only_against_the_order() -> None:
    for action, forced in ((FLAT, False), (SHORT, True), (LONG, True)):
        steps = play(make_env(MARKET, env=CHOICE), [LONG, action, FLAT])
        assert steps.quantity[:, 0].tolist() == [1 / 10.5, 0.0, 0.0]
        assert steps.forced[1, 0] == forced


@pytest.mark.parametrize("fill", ["open", "close"])
def test_an_order_may_close_before_the_exit(fill: str) -> None:
    market = with_exits(make_market(CLOSE, open=OPEN), [3], [3])
    steps = play(make_env(market, env=replace(CHOICE, fill=fill)), [LONG, FLAT, LONG])
    assert traded_bars(steps.traded) == [1, -1, 0]
    assert not steps.forced.any()


def two_assets(closed: list[int]) -> Market:
    """Return a session of five bars, exit at bar 2; the first asset cannot be traded in some of them."""
    close = np.array([[10.0, 20.0], [11.0, 21.0], [12.0, 22.0], [13.0, 23.0], [14.0, 24.0], [15.0, 25.0]])
    tradable = np.ones((6, 2), dtype=bool)
    for bar in closed:
        close[bar, 0] = close[bar - 1, 0]
        tradable[bar, 0] = False
    return with_exits(make_market(close, open=close - 0.5, tradable=tradable), [2, 3, 4], [4])


def test_an_untradable_asset_leaves_at_its_next_open() -> None:
    steps = play(make_env(two_assets([2])), np.full((5, 2), 0.4))
    assert (steps.traded[1] < 0).tolist() == [False, True]  # at bar 2 only the second asset leaves
    assert (steps.traded[2] < 0).tolist() == [True, False]
    assert steps.forced[1:3].tolist() == [[False, True], [True, False]]
    assert steps.price[2, 0] == 12.5
    assert (steps.quantity[2:4] == 0).all()
    assert (steps.exit_quantity == 0).all()


@pytest.mark.parametrize("fill", ["open", "close"])
def test_an_untradable_asset_leaves_at_its_last_close_at_the_latest(fill: str) -> None:
    steps = play(make_env(two_assets([1, 2, 3, 4]), first=0, env=EnvSpec(fill=fill)), np.full((5, 2), 0.4))
    assert steps.exit_quantity.any() == (fill == "close")  # bought at close 0, before the market shut
    if fill == "close":
        assert steps.exit_quantity[3, 0] == pytest.approx(-0.04, rel=1e-12)
        assert steps.exit_price[3].tolist() == [10.0, 0.0]
    assert (steps.quantity[3] == 0).all()


def test_an_exit_that_costs_more_than_there_is_ruins() -> None:
    cost = replace(CostSpec.free(), fixed_fee=70.0, capital=100.0)
    steps = play(make_env(NO_EXIT_BAR, env=CHOICE, cost=cost), np.full(8, LONG))
    # 0.7 for the purchase leaves 13 / 10.5 - 0.7 = 0.538, less than the 0.7 of the exit
    assert steps.terminated.tolist() == [False, False, True]
    assert steps.exit_quantity[2, 0] < 0.0
    assert (steps.equity[2], steps.cash[2], steps.weight[2, 0]) == (0.0, 0.0, 0.0)
