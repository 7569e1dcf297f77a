"""Liquidation at a bar's worst price, holdings that are cut back, entry prices and interest, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.env_state import EnvState
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.evaluate.baselines import FlatPolicy
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, replay_without_costs, rollout
from tests.envs.environments import make_env, play, with_exits, with_gaps
from tests.markets import make_market, random_walk

DOUBLE = EnvSpec(action="continuous", max_leverage=2.0, maintenance_margin=0.25)


def still_market(bars: int = 4, **extremes: float) -> Market:
    """Return a market at 100 whose bar 1 reaches the given `low` or `high`."""
    market = make_market(np.full(bars, 100.0))
    for name, price in extremes.items():
        array = getattr(market, name).copy()
        array[1] = price
        market = replace(market, **{name: array})
    return market


def test_a_long_position_is_closed_at_the_low_of_the_bar() -> None:
    # buys 0.02 at 100 with a loan of 1; at 60 equity is 0.2, below a quarter of the 1.2 held
    steps = play(make_env(still_market(low=60.0), env=DOUBLE), np.ones((3, 1)))
    assert (steps.exit_quantity[0, 0], steps.exit_price[0, 0]) == (pytest.approx(-0.02), 60.0)
    assert steps.equity[0] == pytest.approx(0.2)
    assert steps.quantity[0, 0] == 0.0
    assert steps.turnover[0] == pytest.approx(2.0 + 1.2)
    assert steps.traded[1, 0] == pytest.approx(0.004)  # the order of the next bar starts from a flat account


def test_a_short_position_is_closed_at_the_high_of_the_bar() -> None:
    # sells 0.01 at 100: cash 2; at 170 equity is 0.3, below a quarter of 1.7
    env = make_env(still_market(high=170.0), env=replace(DOUBLE, max_leverage=1.0))
    steps = play(env, -np.ones((2, 1)))
    assert (steps.exit_quantity[0, 0], steps.exit_price[0, 0]) == (pytest.approx(0.01), 170.0)
    assert steps.equity[0] == pytest.approx(0.3)


@pytest.mark.parametrize("margin", [0.0, 0.16])
def test_nothing_is_closed_above_the_margin(margin: float) -> None:
    env = make_env(still_market(low=60.0), env=replace(DOUBLE, maintenance_margin=margin))
    steps = play(env, np.ones((2, 1)))  # 0.2 of 1.2 is a sixth
    assert not steps.exit_quantity.any()
    assert steps.equity[0] == pytest.approx(1.0)


def test_a_liquidation_below_the_loan_is_ruin() -> None:
    steps = play(make_env(still_market(low=40.0), env=DOUBLE), np.ones((3, 1)))
    assert (steps.terminated[0], steps.equity[0]) == (True, 0.0)


def test_a_liquidation_pays_its_costs() -> None:
    cost = CostSpec(commission_bps=10.0, slippage_bps=0.0, borrow_rate=0.0, short_rate=0.0)
    steps = play(make_env(still_market(low=60.0), env=DOUBLE, cost=cost), np.ones((2, 1)))
    assert steps.exit_commission[0, 0] == pytest.approx(1.2 * 0.001)
    assert steps.equity[0] == pytest.approx(0.2 - 0.002 - 0.0012)


def test_an_asset_that_does_not_trade_is_not_liquidated() -> None:
    market = still_market(low=60.0)
    tradable = market.tradable.copy()
    tradable[2] = False
    low = market.low.copy()
    low[1], low[2] = 100.0, 60.0
    market = replace(market, tradable=tradable, low=low)
    steps = play(make_env(market, env=DOUBLE), np.ones((2, 1)))
    assert not steps.exit_quantity.any()


def test_a_short_that_outgrows_the_drift_is_cut_back() -> None:
    market = make_market(100.0 * np.linspace(1.0, 1.9, 60))
    free, cut = (
        play(make_env(market, env=EnvSpec(action="discrete", max_drift=drift)), np.zeros(59, np.int64))
        for drift in (None, 1.5)
    )
    assert np.abs(free.weight).max() > 15
    assert np.abs(cut.weight).max() < 1.6
    assert np.count_nonzero(free.traded) == 2  # the sale, and the end of the episode
    assert np.count_nonzero(cut.traded) > 2


def test_entry_prices_are_means_of_what_was_added() -> None:
    prices = [100.0, 100.0, 200.0, 200.0, 200.0, 200.0]
    env = make_env(make_market(prices, open=prices), env=EnvSpec(action="continuous", rebalance_band=0.0))
    env.reset()
    found = []
    for action in (0.25, 1.0, 0.5, -0.5, 0.0):
        env.advance(np.array([[action]]))
        found.append(float(env.account.entry[0, 0]))
    # 0.0025 at 100; then equity 1.25 buys up to 0.00625 at 200: (0.0025 x 100 + 0.00375 x 200) / 0.00625
    assert found == [pytest.approx(100.0), pytest.approx(160.0), pytest.approx(160.0), 200.0, 0.0]


class Bare:
    """A policy without its fused form."""

    def __init__(self, policy: Any) -> None:
        self.act = policy.act


def wide_market(seed: int) -> Market:
    close = random_walk(200, assets=2, volatility=0.03, seed=seed)
    rng = np.random.default_rng(seed)
    market = make_market(close, tradable=rng.random(close.shape) < 0.9, seed=seed)
    spread = np.exp(np.abs(rng.normal(0, 0.05, close.shape)))
    market = replace(market, high=market.high * spread, low=market.low / spread)
    return with_exits(market, range(22, 200, 24), range(23, 200, 24))


def evaluate(policy: Any, market: Market, env: EnvSpec, cost: CostSpec | None = None) -> Evaluation:
    rules: dict[str, Any] = {"env": env, "reward": RewardSpec(), "lookback": 2}
    return rollout(policy, market, [(5, market.n_bars - 1)], cost=cost or CostSpec(), **rules)[0]


@pytest.mark.parametrize("fill", ["open", "close"])
def test_a_fused_rollout_liquidates_as_one_in_lock_step(fill: str) -> None:
    env = EnvSpec(action="continuous", fill=fill, max_leverage=4.0, maintenance_margin=0.3, max_drift=1.2)
    market = wide_market(3)
    policy = RandomPolicy(env.action_space(2), 0.2, seed=5)
    fused, stepped = evaluate(policy, market, env), evaluate(Bare(policy), market, env)
    assert fused.liquidated.sum() >= 2
    for name in Evaluation.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(fused, name), getattr(stepped, name), err_msg=name)


def test_interest_is_no_cost_and_no_part_of_the_zero_cost_difference() -> None:
    market = with_gaps(make_market(np.full(50, 100.0)), 0.0, 0.01)
    env, cost = EnvSpec(action="continuous"), CostSpec(cash_rate=0.05)
    paid = evaluate(FlatPolicy(env.action_space(1)), market, env, cost)
    (free,) = replay_without_costs(
        [paid], market, env=env, reward=RewardSpec(), lookback=2, cash_rate=cost.cash_rate
    )
    assert paid.equity[-1] > 1.02
    np.testing.assert_array_equal(paid.equity, free.equity)
    np.testing.assert_allclose(paid.financing + paid.interest, 0.0, atol=1e-18)


def test_the_states_of_an_environment_carry_high_and_low() -> None:
    env = make_env(still_market(low=60.0))
    state: EnvState = env.env_state
    assert state.bars.low[1, 0] == 60.0
    assert state.bars.high[1, 0] == 100.0
