"""Evaluations under a stress: each changes one thing of the market, fused and in lock step alike."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.actions import action_space
from envs.costs import CostSpec
from envs.policy import Policy
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.stress import NO_STRESS, Stress
from envs.types import Market
from optimize.evaluate.random_policies import RandomPolicy
from optimize.evaluate.rollout import Evaluation, RecordedPolicy, rollout
from tests.markets import make_market, random_walk
from tests.optimize.evaluate.policies import Acted


@dataclass(frozen=True)
class Stepwise:
    """Act as a policy does, without its compiled rollout."""

    policy: Policy

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Acted:
        return self.policy.act(observation, state, start)


COST = CostSpec(commission_bps=3.0, slippage_bps=2.0, borrow_rate=0.1, short_rate=0.2, fixed_fee=1.0)
SPAN = (40, 139)


@pytest.fixture(scope="module")
def market() -> Market:
    close = random_walk(160, seed=3)
    opens = np.concatenate([close[:1], close[:-1]]) * 1.001
    high, low = np.maximum(opens, close) * 1.01, np.minimum(opens, close) * 0.98
    return replace(make_market(close, open=opens), high=high.reshape(-1, 1), low=low.reshape(-1, 1))


def run(
    market: Market, stress: Stress, *, discrete: bool = False, cost: CostSpec = COST, fused: bool = True
) -> Evaluation:
    policy = RandomPolicy(action_space(discrete, False, 1), 0.3, seed=5)
    env = EnvSpec(action="discrete" if discrete else "continuous", rebalance_band=0.0, max_leverage=2.0)
    ran: Policy = policy if fused else Stepwise(policy)
    return rollout(ran, market, [SPAN], env=env, cost=cost, reward=RewardSpec(), lookback=2, stress=stress)[0]


def test_a_factor_on_costs_is_that_of_higher_costs(market: Market) -> None:
    doubled = replace(
        COST, commission_bps=6.0, slippage_bps=4.0, borrow_rate=0.2, short_rate=0.4, fixed_fee=2.0
    )
    stressed, dear = run(market, Stress(cost_factor=2.0)), run(market, NO_STRESS, cost=doubled)
    np.testing.assert_allclose(stressed.equity, dear.equity, rtol=1e-14)
    assert stressed.equity[-1] < run(market, NO_STRESS).equity[-1]


def test_a_factor_on_costs_widens_the_spread_of_the_data(market: Market) -> None:
    quoted = CostSpec(commission_bps=0.0, slippage_bps=0.0, spread_from_data=True)
    narrow = replace(market, spread=np.full_like(market.close, 0.02))
    wide = replace(market, spread=np.full_like(market.close, 0.06))
    stressed = run(narrow, Stress(cost_factor=3.0), cost=replace(quoted, borrow_rate=0.0, short_rate=0.0))
    dear = run(wide, NO_STRESS, cost=replace(quoted, borrow_rate=0.0, short_rate=0.0))
    np.testing.assert_allclose(stressed.equity, dear.equity, rtol=1e-14)


def test_the_worst_price_is_the_high_for_buys_and_the_low_for_sales(market: Market) -> None:
    found = run(market, Stress(worst_price=True))
    worst = np.where(found.quantity > 0, market.high[found.bar], market.low[found.bar])
    traded = found.quantity != 0
    assert {np.sign(q) for q in found.quantity[traded]} == {-1.0, 1.0}
    np.testing.assert_allclose(found.price[traded], worst[traded], rtol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("discrete", [True, False])
def test_a_delay_executes_each_order_one_bar_later(market: Market, discrete: bool, fused: bool) -> None:
    found = run(market, Stress(delay=1), discrete=discrete, fused=fused)
    flat = np.full_like(found.action[:1], 1 if discrete else 0)
    late = RecordedPolicy([np.concatenate([flat, found.action[:-1]])])
    env = EnvSpec(action="discrete" if discrete else "continuous", rebalance_band=0.0, max_leverage=2.0)
    expected = rollout(late, market, [SPAN], env=env, cost=COST, reward=RewardSpec(), lookback=2)[0]
    np.testing.assert_array_equal(found.equity, expected.equity)
    assert found.quantity[0, 0] == 0
    assert found.fills.sum() > 10


@pytest.mark.parametrize("discrete", [True, False])
def test_a_limit_of_units_fills_orders_in_part_until_they_are_whole(market: Market, discrete: bool) -> None:
    most = np.full_like(market.close, 0.25 / market.close.mean())
    found = run(market, Stress(most_units=most), discrete=discrete)
    sizes = np.abs(found.quantity[:-1, 0])  # the last bar closes everything
    assert sizes.max() <= most[0, 0] * (1 + 1e-12)
    assert np.count_nonzero(np.isclose(sizes, most[0, 0])) > 5


def test_an_order_for_flat_closes_what_another_had_filled_in_part(market: Market) -> None:
    most = np.full_like(market.close, 0.25 / market.close.mean())
    sent = np.full(100, 1)
    sent[:3] = 2
    env = EnvSpec(action="discrete", max_leverage=2.0)
    found = rollout(
        RecordedPolicy([sent]),
        market,
        [SPAN],
        env=env,
        cost=COST,
        reward=RewardSpec(),
        lookback=2,
        stress=Stress(most_units=most),
    )[0]
    held = np.cumsum(found.quantity[:, 0]) / most[0, 0]
    np.testing.assert_allclose(held[:8], [1, 2, 3, 2, 1, 0, 0, 0], atol=1e-9)


def test_a_limit_above_every_order_changes_nothing(market: Market) -> None:
    most = np.full_like(market.close, 1e9)
    np.testing.assert_array_equal(run(market, Stress(most_units=most)).equity, run(market, NO_STRESS).equity)
