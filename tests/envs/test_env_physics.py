"""One physics: the same actions through every door give the same observations, rewards and equity."""

from dataclasses import replace
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.costs import CostSpec
from envs.episodes import SequentialEpisodes
from envs.rewards import REWARDS, RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.sb3.vecenv import SB3VecEnv
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

ROWS, FIRST, LAST, LOOKBACK = 3, 4, 34, 3
COST = CostSpec(spread_from_data=True, commission_per_share=0.0035, commission_min=0.35, fixed_fee=1.0)
WORLDS = {
    "discrete": (1, EnvSpec(action="discrete", max_leverage=3.0)),
    "long_or_flat": (1, EnvSpec(action="discrete", long_only=True)),
    "long_only": (1, EnvSpec(long_only=True, fill="close")),
    "several": (3, EnvSpec(max_leverage=3.0, max_weights=[2.0, 1.5, 0.4], rebalance_band=0.05)),
    "several_long": (3, EnvSpec(long_only=True, max_weights=[0.5])),
}


def world(n_assets: int) -> Market:
    """Build a wild market of ten-bar sessions that end flat, a third of them without their exit bar."""
    n_bars, rng = 60, np.random.default_rng(1)
    close = random_walk(n_bars, assets=n_assets, volatility=0.15, seed=n_assets)
    market = make_market(close, tradable=rng.random(close.shape) > 0.2, open=close * rng.uniform(0.95, 1.05))
    sessions = range(9, n_bars, 10)
    at_open = [bar for index, end in enumerate(sessions) if index % 3 for bar in range(end - 1, end + 1)]
    market = with_exits(market, at_open, sessions)
    moments = buy_and_hold_moments(market, 0, n_bars - 1)
    return replace(market, spread=close * rng.uniform(0, 0.01, close.shape), hold_moments=moments)


@pytest.mark.parametrize(("name", "reward"), list(product(WORLDS, REWARDS)))
def test_every_door_leads_to_the_same_physics(name: str, reward: str) -> None:
    n_assets, env_spec = WORLDS[name]
    keys: dict[str, Any] = {
        "market": world(n_assets),
        "episodes": SequentialEpisodes([FIRST], [LAST]),
        "env": env_spec,
        "cost": COST,
        "reward": RewardSpec(reward, adaptation_rate=0.05, clip=1.0),  # which binds in every world
        "lookback": LOOKBACK,
    }
    plain = TradingVectorEnv(num_envs=ROWS, **keys)
    made = gymnasium.make_vec(
        "Walkforge/Trading-v0", num_envs=ROWS, vectorization_mode="vector_entry_point", **keys
    )
    batch = made.unwrapped
    assert isinstance(batch, TradingVectorEnv)
    for_sb3 = SB3VecEnv(TradingVectorEnv(num_envs=ROWS, **keys))
    singles = [gymnasium.make("Walkforge/Trading-v0", **keys) for _ in range(ROWS)]
    observation, _ = plain.reset(seed=0)
    np.testing.assert_array_equal(observation, made.reset(seed=0)[0])
    np.testing.assert_array_equal(observation, for_sb3.reset())
    np.testing.assert_array_equal(observation, [single.reset(seed=0)[0] for single in singles])
    plain.action_space.seed(2)
    seen = {"ended": 0, "forced": 0, "closed": 0, "untradable": 0}
    for _ in range(80):
        actions = plain.action_space.sample()
        observation, earned, dead, over, infos = plain.step(actions)
        same, also_earned, also_dead, also_over, also_infos = made.step(actions)
        for_sb3.step_async(actions)
        seen_by_sb3, sb3_earned, sb3_done, reports = for_sb3.step_wait()
        for one, other in (
            *((observation, same), (earned, also_earned), (dead, also_dead), (over, also_over)),
            *((observation, seen_by_sb3), (earned.astype(np.float32), sb3_earned), (dead | over, sb3_done)),
            *((plain.last_equity, batch.last_equity), (plain.last_equity, for_sb3.env.last_equity)),
        ):
            np.testing.assert_array_equal(one, other)
        for row, single in enumerate(singles):
            shown, gained, is_dead, is_over, info = single.step(actions[row])
            assert (gained, is_dead, is_over) == (earned[row], dead[row], over[row])
            assert info["equity"] == plain.last_equity[row]
            np.testing.assert_array_equal(info["weight"], plain.last_weight[row])
            seen["forced"] += int((plain.fill.forced[row] & info["forced"]).sum())
            seen["closed"] += int((plain.fill.exit_quantity[row] != 0).sum())
            seen["untradable"] += int((~info["tradable"]).sum())
            if is_dead or is_over:
                seen["ended"] += 1
                np.testing.assert_array_equal(shown, infos["final_obs"][row])
                np.testing.assert_array_equal(shown, also_infos["final_obs"][row])
                np.testing.assert_array_equal(shown, reports[row]["terminal_observation"])
                shown, _ = single.reset()
            np.testing.assert_array_equal(observation[row], shown)
    share = plain.reward_active_share
    assert share == batch.reward_active_share == for_sb3.get_attr("reward_active_share")[0]
    assert (share < 1) == reward.startswith("differential")
    assert min(seen.values()) > 0  # the market contains every case under test


@pytest.mark.parametrize("reward", REWARDS)
def test_the_same_seed_plays_the_same_game(reward: str) -> None:
    market = world(3)
    env = TradingVectorEnv(
        market,
        SequentialEpisodes([FIRST, 20], [LAST, 50]),
        num_envs=4,
        env=EnvSpec(),
        cost=COST,
        reward=RewardSpec(reward),
        lookback=LOOKBACK,
    )
    games = []
    for _ in range(2):
        env.reset(seed=5)
        env.action_space.seed(7)
        games.append([env.step(env.action_space.sample())[:2] for _ in range(70)])
    for (one, earned), (other, again) in zip(*games, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(earned, again)
