"""The single environment holds to the gymnasium and stable-baselines3 contracts."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes, SequentialEpisodes
from envs.errors import WalkforgeError
from envs.rewards import RewardSpec
from envs.single import TradingEnv
from envs.vector import EnvSpec
from tests.markets import make_market, random_walk

MARKET = make_market(random_walk(80, assets=2))


def make_single(action: str = "continuous", episodes: Episodes | None = None) -> TradingEnv:
    market = make_market(random_walk(80)) if action == "discrete" else MARKET
    return TradingEnv(
        market,
        episodes or RandomEpisodes(7, 79, 20),
        env=EnvSpec(action=action),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=8,
    )


# an unbounded observation is right for features that are scaled later, so the checker's doubt is noise
@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity:UserWarning")
@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_gymnasium_accepts_it(action: str) -> None:
    check_env(make_single(action), skip_render_check=True)


@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity:UserWarning")
def test_gymnasium_makes_it_from_its_name() -> None:
    env = gymnasium.make(
        "Walkforge/Trading-v0",
        market=MARKET,
        episodes=RandomEpisodes(7, 79, 20),
        env=EnvSpec(),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=8,
    )
    check_env(env.unwrapped, skip_render_check=True)
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert info["equity"] == 1.0


@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_stable_baselines3_accepts_it(action: str) -> None:
    check_env_for_sb3(make_single(action))


def test_info_tells_equity_weight_and_cost() -> None:
    env = make_single()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([0.5, -0.5], dtype=np.float32))
    assert float(reward) == pytest.approx(np.log(info["equity"]))
    assert info["weight"] == pytest.approx([0.5, -0.5], abs=0.05)
    # 1 of notional at 1.5 bps, and short financing of an hour
    assert info["cost"] == pytest.approx(1.5e-4 + 0.5 * 0.02 / 8766, rel=1e-3)


def test_reset_walks_the_list_and_a_seeded_one_begins_it_again() -> None:
    env = make_single(episodes=SequentialEpisodes([7, 30], [9, 40]))
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset()[0], first)
    np.testing.assert_array_equal(env.reset(seed=0)[0], first)


def test_a_step_after_the_end_is_refused() -> None:
    env = make_single(episodes=SequentialEpisodes([7], [9]))
    env.reset()
    assert env.step(np.zeros(2))[3] is False
    assert env.step(np.zeros(2))[3] is True
    with pytest.raises(WalkforgeError, match=r"call reset\(\) first"):
        env.step(np.zeros(2))
