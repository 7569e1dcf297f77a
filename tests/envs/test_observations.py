"""Observations: the window ending at the observed bar, then the account."""

from dataclasses import replace

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.observations import ObservationLayout, observation_layout
from envs.rewards import REWARDS, RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from tests.envs.environments import make_env, play
from tests.markets import make_market, random_walk


@pytest.mark.parametrize(
    ("assets", "reward", "layout"),
    [
        (1, "net_log_return", ObservationLayout(12, 13, 13, 13, 14, 15, 15)),
        (1, "differential_sharpe", ObservationLayout(12, 13, 13, 13, 14, 15, 17)),
        (2, "net_log_return", ObservationLayout(24, 26, 27, 29, 30, 31, 31)),
        (3, "differential_downside", ObservationLayout(36, 39, 40, 43, 44, 45, 47)),
    ],
)
def test_layout(assets: int, reward: str, layout: ObservationLayout) -> None:
    market = make_market(np.full((9, assets), 5.0), features=3)
    assert observation_layout(market, 4, RewardSpec(reward)) == layout


def test_window_is_time_major_and_ends_at_the_observed_bar() -> None:
    n_bars, n_assets, n_features = 8, 2, 3
    features = np.arange(n_bars * n_assets * n_features, dtype=np.float32).reshape(n_bars, n_assets, -1)
    market = make_market(np.full((n_bars, n_assets), 5.0), features=features)
    env = make_env(market, first=3, lookback=3)
    observation, _ = env.reset()
    assert observation.shape == (1, 3 * 2 * 3 + 2 + 1 + 2 + 2)
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation[0, :18], features[1:4].ravel())
    np.testing.assert_array_equal(env.advance(np.zeros((1, 2)))[0][0, :18], features[2:5].ravel())


def test_account_part_is_weight_last_return_and_drawdown() -> None:
    market = make_market([10.0, 12.0, 9.0, 9.0, 9.0], open=[10.0, 10.0, 12.0, 9.0, 9.0])
    steps = play(make_env(market, env=EnvSpec(rebalance_band=5.0)), np.array([[6.0], [0.5], [0.0]]))
    # a band of 5 never trades, so buy with one that does
    assert (steps.observation[:, -3:] == 0.0).all()
    steps = play(make_env(market, env=EnvSpec(rebalance_band=0.6)), np.array([[1.0], [0.5], [0.5]]))
    expected = [[0, 0, 0], [1, np.log(1.2), 0], [1, np.log(0.75), -0.25], [1, 0, -0.25]]
    np.testing.assert_allclose(steps.observation[:, -3:], expected, rtol=1e-6, atol=1e-7)


def test_several_assets_also_show_cash_and_tradable_assets() -> None:
    tradable = [[True, True], [True, False], [False, True], [True, True]]
    market = make_market([[10.0, 10.0], [10.0, 10.0], [20.0, 10.0], [20.0, 10.0]], tradable=tradable)
    steps = play(make_env(market, env=EnvSpec(max_leverage=2.0)), np.array([[0.75, 0.25]] * 2))
    # 1.5 of equity goes long at the open of bar 1, the other order is void; the price doubles in bar 2, where
    # only the second asset trades: .5 of equity 1 at its open; then equity 2.5 holds 3 + .5 and owes 1
    expected = [[0, 0, 1, 1, 1, 0, 0], [1.5, 0, -0.5, 1, 0, 0, 0], [1.2, 0.2, -0.4, 0, 1, np.log(2.5), 0]]
    np.testing.assert_allclose(steps.observation[:, -7:], np.array(expected), rtol=1e-6, atol=1e-7)


def test_a_ruined_account_of_several_assets_is_seen_in_numbers() -> None:
    market = make_market([[100.0, 1.0], [100.0, 1.0], [40.0, 1.0], [40.0, 1.0]])
    steps = play(make_env(market, env=EnvSpec(max_leverage=2.0)), np.array([[1.0, 0.0]] * 3))
    assert steps.terminated[-1]
    np.testing.assert_allclose(steps.observation[-1, [-7, -6, -5, -1]], [0, 0, 0, -1])
    assert np.isfinite(steps.observation).all()


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("assets", [1, 3])
def test_cash_and_weights_are_the_whole_account(assets: int, reward: str) -> None:
    market = make_market(random_walk(60, assets=assets))
    market = replace(market, hold_moments=buy_and_hold_moments(market, 0, 59))
    env = make_env(market, cost=CostSpec(), reward=RewardSpec(reward), lookback=3, first=2)
    actions = np.random.default_rng(0).uniform(-1, 1, (57, assets))
    steps, layout = play(env, actions), env.layout
    seen = steps.observation[1:]
    weight = seen[:, layout.weight : layout.weight + assets]
    np.testing.assert_allclose(weight, steps.weight, rtol=1e-6, atol=1e-9)
    if assets > 1:
        np.testing.assert_allclose(weight.sum(axis=1) + seen[:, layout.cash], 1.0, rtol=1e-6)
    peak = np.maximum.accumulate(np.maximum(steps.equity, 1.0))
    np.testing.assert_allclose(seen[:, layout.drawdown], steps.equity / peak - 1, atol=1e-6)
    growth = np.diff(np.log(steps.equity), prepend=0.0)
    np.testing.assert_allclose(seen[:, layout.last_return], growth, atol=1e-7)
