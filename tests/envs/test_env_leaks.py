"""Data stamped after bar t changes no observation, fill or reward at or before t."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.costs import CostSpec
from envs.rewards import REWARDS, RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from envs.types import Market
from tests.envs.environments import make_env, play, with_exits
from tests.markets import make_market, random_walk

N_BARS, LOOKBACK = 24, 4
FIRST = LOOKBACK - 1


def world() -> Market:
    """Build a market of eight-bar sessions, known in advance from the calendar, with quoted spreads."""
    market = make_market(random_walk(N_BARS, assets=2, volatility=0.03))
    market = with_exits(market, [6, 7, 14, 15], [7, 15, 23])
    moments = buy_and_hold_moments(market, 0, FIRST)  # of a train span before the first step
    return replace(market, spread=market.close * 0.001, hold_moments=moments)


MARKET = world()


def scramble_after(market: Market, bar: int, seed: int) -> Market:
    rng = np.random.default_rng(seed)
    changed = {name: getattr(market, name).copy() for name in ("open", "high", "low", "close")}
    for values in changed.values():
        values[bar + 1 :] *= rng.uniform(0.5, 2.0, values[bar + 1 :].shape)
    spread = market.spread.copy()
    spread[bar + 1 :] *= rng.uniform(0.5, 2.0, spread[bar + 1 :].shape)
    tradable, features = market.tradable.copy(), market.features.copy()
    tradable[bar + 1 :] = rng.random(tradable[bar + 1 :].shape) > 0.3
    features[bar + 1 :] = rng.normal(size=features[bar + 1 :].shape)
    return replace(market, **changed, spread=spread, tradable=tradable, features=features)


@pytest.mark.parametrize("reward", REWARDS)
@settings(max_examples=40, deadline=None)
@given(
    bar=st.integers(FIRST, N_BARS - 2),
    seed=st.integers(0, 1000),
    fill=st.sampled_from(["open", "close"]),
    long_only=st.booleans(),
)
def test_the_future_changes_nothing_before_it(
    reward: str, bar: int, seed: int, fill: str, long_only: bool
) -> None:
    actions = np.random.default_rng(seed).uniform(-1, 1, (N_BARS, 2))
    env = EnvSpec(fill=fill, max_leverage=1.5, long_only=long_only, max_weights=[0.9])
    cost, spec = CostSpec(spread_from_data=True), RewardSpec(reward, adaptation_rate=0.1)
    known, changed = (
        play(make_env(market, first=FIRST, lookback=LOOKBACK, env=env, cost=cost, reward=spec), actions)
        for market in (MARKET, scramble_after(MARKET, bar, seed))
    )
    steps = bar - FIRST  # steps that end at or before bar
    fills = steps if fill == "open" else steps + 1  # the next step fills at the close of bar itself
    np.testing.assert_array_equal(known.observation[: steps + 1], changed.observation[: steps + 1])
    np.testing.assert_array_equal(known.reward[:steps], changed.reward[:steps])
    np.testing.assert_array_equal(known.equity[:steps], changed.equity[:steps])
    for name in ("traded", "price", "commission", "slippage", "forced"):
        np.testing.assert_array_equal(getattr(known, name)[:fills], getattr(changed, name)[:fills])
    assert not np.array_equal(known.observation[steps + 1 :], changed.observation[steps + 1 :])
