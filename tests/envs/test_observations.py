"""What an agent sees: the window ending at the observed bar, then its account."""

import numpy as np

from envs.vector import EnvSpec
from tests.envs.worlds import make_env, play
from tests.markets import make_market


def test_window_is_time_major_and_ends_at_the_observed_bar() -> None:
    n_bars, n_assets, n_features = 8, 2, 3
    features = np.arange(n_bars * n_assets * n_features, dtype=np.float32).reshape(n_bars, n_assets, -1)
    market = make_market(np.full((n_bars, n_assets), 5.0), features=features)
    env = make_env(market, first=3, lookback=3)
    observation, _ = env.reset()
    assert observation.shape == (1, 3 * 2 * 3 + 2 + 2)
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
