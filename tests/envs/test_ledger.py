"""The ledger against amounts worked by hand; each comment shows the arithmetic."""

from dataclasses import replace

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.orders import OrderRules, scale_target
from envs.rewards import RUIN_FLOOR
from envs.spec import EnvSpec
from tests.envs.environments import EAGER, make_env, play, with_exits, with_gaps
from tests.markets import make_market, random_walk

NO_TRADE_COSTS = CostSpec(0.0, 0.0, borrow_rate=0.10, short_rate=0.20, cash_rate=0.05)


def test_commission_and_slippage_by_hand() -> None:
    market = make_market([100.0, 110.0, 121.0, 121.0], open=[100.0, 100.0, 110.0, 120.0])
    cost = CostSpec(commission_bps=10.0, slippage_bps=20.0, borrow_rate=0.0, short_rate=0.0)
    steps = play(make_env(market, env=EnvSpec(), cost=cost), np.ones((3, 1)))
    # buys 1 / 100 units; commission 0.01 x 100.2 x 0.001, slippage 0.01 x 100 x 0.002; cash 0 - 0.003002
    # then drifts to 1.1 / 1.096998 = 1.0027, inside the band; sells at 120: 0.01 x 119.76 x 0.001, 0.0024
    np.testing.assert_allclose(steps.traded[:, 0], [0.01, 0.0, -0.01], atol=1e-15)
    np.testing.assert_allclose(steps.commission[:, 0], [0.001002, 0.0, 0.0011976], atol=1e-15)
    np.testing.assert_allclose(steps.slippage[:, 0], [0.002, 0.0, 0.0024], atol=1e-15)
    np.testing.assert_allclose(steps.cash, [-0.003002, -0.003002, 1.1934004], rtol=1e-12)
    np.testing.assert_allclose(steps.equity, [1.096998, 1.206998, 1.1934004], rtol=1e-12)
    np.testing.assert_allclose(steps.turnover, [1.0, 0.0, 1.2 / 1.196998], rtol=1e-12)
    np.testing.assert_allclose(steps.weight[:, 0], [1.1 / 1.096998, 1.21 / 1.206998, 0.0], rtol=1e-12)
    np.testing.assert_allclose(
        steps.reward, np.diff(np.log([1.0, 1.096998, 1.206998, 1.1934004])), rtol=1e-12
    )
    assert steps.truncated.tolist() == [False, False, True]


def test_leverage_and_borrowing_by_hand() -> None:
    prices = [100.0, 105.0, 105.0, 105.0]
    market = with_gaps(make_market(prices, open=[100.0, 100.0, 105.0, 105.0]), 0.01, 0.09)
    steps = play(make_env(market, env=EnvSpec(max_leverage=2.0), cost=NO_TRADE_COSTS), np.ones((2, 1)))
    # step 1: flat over the gap earns 5 % x 0.01 on 1: cash 1.0005; buys 2 x 1.0005 / 100 units; cash -1.0005
    #         bar: 10 % x 1.0005 x 0.09 = 0.0090045; cash -1.0095045; equity 2.101050 - 1.0095045
    # step 2: gap 10 % x 1.0095045 x 0.01 = 0.0010095045; cash -1.0105140045; before costs 1.0905359955
    #         drifted 2.10105 / 1.0905359955 = 1.927, so back to 2: cash -1.0905359955
    #         bar 10 % x 1.0905359955 x 0.09 = 0.0098148239595
    np.testing.assert_allclose(
        steps.financing, [-0.0005 + 0.0090045, 0.0010095045 + 0.0098148239595], rtol=1e-10
    )
    np.testing.assert_allclose(steps.cash, [-1.0095045, -1.1003508194595], rtol=1e-10)
    np.testing.assert_allclose(steps.equity, [1.0915455, 2 * 1.0905359955 - 1.1003508194595], rtol=1e-10)
    np.testing.assert_allclose(steps.quantity[:, 0], [0.02001, 2 * 1.0905359955 / 105], rtol=1e-10)


def test_short_and_cash_interest_by_hand() -> None:
    market = with_gaps(make_market([50.0, 40.0, 45.0], open=[50.0, 50.0, 45.0]), 0.01, 0.09)
    steps = play(make_env(market, cost=replace(NO_TRADE_COSTS, cash_rate=0.0)), -np.ones((2, 1)))
    # step 1: sells 0.02 at 50: cash 2; 20 % x 1 x 0.09 = 0.018; cash 1.982; equity 1.982 - 0.8
    # step 2: gap 20 % x 0.8 x 0.01 = 0.0016; buys back at 45 for 0.9
    np.testing.assert_allclose(steps.cash, [1.982, 1.0804], rtol=1e-12)
    np.testing.assert_allclose(steps.equity, [1.182, 1.0804], rtol=1e-12)
    np.testing.assert_allclose(steps.financing, [0.018, 0.0016], rtol=1e-12)
    steps = play(make_env(market, cost=NO_TRADE_COSTS), -np.ones((2, 1)))
    # gap, flat: earns 5 % x 1 x 0.01 = 0.0005; sells 1.0005 / 50; bar: (20 % - 5 %) x 1.0005 x 0.09
    assert steps.financing[0] == pytest.approx(-0.0005 + 0.15 * 1.0005 * 0.09, rel=1e-12)


def test_fill_at_close_trades_at_the_observed_close_and_holds_over_the_gap() -> None:
    market = with_gaps(make_market([100.0, 120.0, 90.0], open=[100.0, 110.0, 130.0]), 0.01, 0.09)
    at_open = play(make_env(market, cost=CostSpec.free()), np.ones((2, 1)))
    # open: buys at 110, closes at 130
    np.testing.assert_allclose(at_open.equity, [120 / 110, 130 / 110], rtol=1e-12)
    spec = EnvSpec(fill="close", rebalance_band=0.0, max_leverage=2.0)
    at_close = play(make_env(market, env=spec, cost=NO_TRADE_COSTS), np.ones((2, 1)))
    # close: buys 0.02 at 100, borrows 1 for gap and bar: 10 % x 0.1 = 0.01; 2.4 - 1.01 = 1.39
    # the last order sells 0.02 at 120, then idle cash of 1.39 earns 5 % x 0.1
    np.testing.assert_allclose(at_close.price[:, 0], [100.0, 120.0])
    np.testing.assert_allclose(at_close.equity, [1.39, 1.39 * 1.005], rtol=1e-12)


def test_buy_and_hold_follows_the_closed_formula() -> None:
    market = make_market(random_walk(200, seed=3))
    cost = CostSpec(commission_bps=3.0, slippage_bps=2.0, borrow_rate=0.0, short_rate=0.0)
    steps = play(make_env(market, env=EnvSpec(rebalance_band=0.05), cost=cost), np.ones((199, 1)))
    bought, sold = market.open[1, 0], market.open[-1, 0]
    paid_in = 2e-4 + (1 + 2e-4) * 3e-4  # slippage, then commission on the price that includes it
    paid_out = 2e-4 + (1 - 2e-4) * 3e-4
    held = market.close[1:-1, 0] / bought - paid_in
    np.testing.assert_allclose(steps.equity[:-1], held, rtol=1e-12)
    assert steps.equity[-1] == pytest.approx(sold / bought * (1 - paid_out) - paid_in, rel=1e-12)
    assert np.count_nonzero(steps.traded) == 2


def test_two_assets_share_the_leverage() -> None:
    market = make_market(np.full((4, 2), 10.0), open=np.full((4, 2), 10.0))
    steps = play(make_env(market, env=EnvSpec(max_leverage=1.5)), [[1.0, -1.0], [0.2, 0.4], [0.2, 0.4]])
    # 1.5 + 1.5 = 3 is scaled by 1.5 / 3; 0.3 + 0.6 = 0.9 is within the leverage
    np.testing.assert_allclose(steps.weight, [[0.75, -0.75], [0.3, 0.6], [0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(steps.turnover, [1.5, 0.45 + 1.35, 0.9], rtol=1e-12)


def test_void_order_keeps_the_position_and_trades_when_the_asset_does() -> None:
    close = np.array([[10.0, 10.0], [10.0, 10.0], [10.0, 11.0], [12.0, 11.0], [12.0, 11.0]])
    open_ = np.array([[10.0, 10.0], [10.0, 10.0], [99.0, 10.0], [12.0, 11.0], [12.0, 11.0]])
    tradable = np.ones((5, 2), dtype=bool)
    tradable[2, 0] = False
    market = make_market(close, open=open_, tradable=tradable)
    actions = [[0.5, 0.0], [-0.5, 0.5], [-0.5, 0.5], [0.0, 0.0]]
    steps = play(make_env(market), actions)
    assert steps.traded[1, 0] == 0.0
    assert steps.traded[1, 1] > 0.0
    assert steps.price[1, 0] == 10.0  # the last close, not the print of a closed market
    assert steps.equity[1] == pytest.approx(1.0 + 0.5 * 0.1)  # asset 0 marked flat, asset 1 rose 10 %
    assert steps.quantity[2, 0] < 0.0


def test_discrete_trades_only_on_change_and_retries_a_void_order() -> None:
    tradable = np.ones(9, dtype=bool)
    tradable[4] = False
    market = make_market(random_walk(9, volatility=0.1), tradable=tradable)
    spec = EnvSpec(action="discrete", rebalance_band=0.0, max_leverage=0.5)  # half invested, so it drifts
    # long, long, short, (void) long, long, long, flat, flat
    steps = play(make_env(market, env=spec), [2, 2, 0, 2, 2, 2, 1, 1])
    assert (steps.traded[:, 0] != 0.0).tolist() == [True, False, True, False, True, False, True, False]
    assert np.sign(steps.quantity[:, 0]).tolist() == [1, 1, -1, -1, 1, 1, 0, 0]


def test_band_spares_small_trades_but_closing_is_always_allowed() -> None:
    market = make_market(np.full(7, 10.0))
    spec = EnvSpec(rebalance_band=0.1)
    steps = play(make_env(market, env=spec), np.array([[0.5], [0.59], [0.61], [0.05], [0.0]]))
    np.testing.assert_allclose(steps.traded[:, 0], [0.05, 0.0, 0.011, -0.056, -0.005], atol=1e-12)
    assert play(make_env(market, env=spec), np.array([[0.1], [0.1]])).turnover.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("tradable_at_the_end", [True, False])
@pytest.mark.parametrize("fill", ["open", "close"])
def test_last_bar_closes_flat_at_cost(fill: str, tradable_at_the_end: bool) -> None:
    tradable = np.ones(10, dtype=bool)
    tradable[-2:] = tradable_at_the_end
    market = make_market(random_walk(10), tradable=tradable)
    env = make_env(market, env=EnvSpec(fill=fill), cost=CostSpec())
    steps = play(env, np.ones((9, 1)))
    assert len(steps.reward) == 9
    assert steps.quantity[-1, 0] == 0.0
    assert steps.commission[-1, 0] > 0.0
    assert steps.truncated[-1]
    assert not steps.terminated.any()
    assert steps.equity[-1] == steps.cash[-1]


@pytest.mark.parametrize("crash", ["at the fill", "at the close"])
def test_ruin_terminates_with_a_finite_floored_reward(crash: str) -> None:
    low = 40.0
    open_ = [100.0, 100.0, low if crash == "at the fill" else 100.0, low]
    close = [100.0, 100.0, 100.0 if crash == "at the fill" else low, low]  # a recovery comes too late
    env = make_env(make_market(close, open=open_), env=EnvSpec(max_leverage=2.0))
    # a short ordered with less than nothing must not come back to life
    steps = play(env, np.array([[1.0], [-1.0], [1.0]]) if crash == "at the fill" else np.ones((3, 1)))
    assert steps.terminated.tolist() == [False, True]
    assert not steps.truncated.any()
    assert (steps.equity[1], steps.cash[1], steps.quantity[1, 0], steps.weight[1, 0]) == (0, 0, 0, 0)
    assert steps.reward[1] == np.log(RUIN_FLOOR)
    assert steps.observation[-1, -1] == -1.0  # drawdown
    assert np.isfinite(steps.observation).all()


def test_costs_make_the_difference_to_free_trading() -> None:
    market = make_market(random_walk(100))
    actions = np.random.default_rng(0).uniform(-1, 1, (99, 1))
    free = play(make_env(market), actions)
    paid = play(make_env(market, cost=CostSpec()), actions)
    assert (free.equity[1:] > paid.equity[1:]).all()
    assert make_env(market, env=EAGER).fill.quantity.shape == (1, 1)


@pytest.mark.parametrize(("fill", "quoted"), [("open", [0.04, 0.06]), ("close", [0.02, 0.04])])
def test_a_quoted_spread_is_that_of_the_bar_of_the_fill(fill: str, quoted: list[float]) -> None:
    market = make_market([10.0, 10.0, 10.0, 10.0], open=[10.0, 10.0, 10.0, 10.0])
    market = replace(market, spread=np.array([[0.02], [0.04], [0.06], [0.10]]))
    exits = with_exits(market, [], [2])
    cost = replace(CostSpec.free(), spread_from_data=True)
    steps = play(make_env(exits, env=EnvSpec(action="discrete", fill=fill), cost=cost), [2, 0, 1])
    # buys 0.1 for half a spread, turns to short with 0.1 + the quantity, and exits at the close of bar 2
    np.testing.assert_allclose(
        steps.slippage[:2, 0], [0.1 * quoted[0] / 2, -steps.traded[1, 0] * quoted[1] / 2], rtol=1e-12
    )
    assert steps.exit_slippage[1, 0] == pytest.approx(steps.exit_quantity[1, 0] * 0.03, rel=1e-12)
    assert steps.exit_quantity[1, 0] == -(steps.traded[0, 0] + steps.traded[1, 0])


@pytest.mark.parametrize(
    ("long_only", "limits", "actions", "expected"),
    [
        (False, [np.inf, np.inf], [2.0, -0.5], [4 / 3, -2 / 3]),  # cut to 1 and -0.5, x 2; 3 shrinks to 2
        (False, [0.5, 0.4], [1.0, -1.0], [0.5, -0.4]),
        (False, [np.inf, 1.0], [1.0, -1.0], [4 / 3, -2 / 3]),  # limits first: 2 and -1, then 3 shrinks to 2
        (True, [0.5, np.inf], [1.0, -1.0], [0.5, 0.0]),
        (True, [np.inf, np.inf], [0.1, 0.2], [0.2, 0.4]),
    ],
)
def test_actions_become_exposures_within_every_limit(
    long_only: bool, limits: list[float], actions: list[float], expected: list[float]
) -> None:
    rules = OrderRules(True, False, 2.0, 0.0, long_only, np.array(limits))
    target = np.array(actions)
    scale_target(target, rules)
    np.testing.assert_allclose(target, expected, rtol=1e-12, atol=0.0)
