"""The single environment holds to the gymnasium and stable-baselines3 contracts."""

import contextlib
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from envs.costs import CostSpec
from envs.episodes import Episodes, RandomEpisodes, SequentialEpisodes
from envs.errors import WalkforgeError
from envs.rewards import REWARDS, RewardSpec, buy_and_hold_moments
from envs.single import TradingEnv
from envs.spec import EnvSpec
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk

MARKET = make_market(random_walk(80, assets=2))


def make_single(
    action: str = "continuous",
    episodes: Episodes | None = None,
    *,
    long_only: bool = False,
    reward: str = "net_log_return",
) -> TradingEnv:
    market = make_market(random_walk(80)) if action == "discrete" else MARKET
    market = replace(market, hold_moments=buy_and_hold_moments(market, 7, 79))
    return TradingEnv(
        market,
        episodes or RandomEpisodes(7, 79, 20),
        env=EnvSpec(action=action, long_only=long_only),
        cost=CostSpec(),
        reward=RewardSpec(reward),
        lookback=8,
    )


# an unbounded observation is right for features that are scaled later, so the checker's doubt is noise
@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity:UserWarning")
@pytest.mark.parametrize("action", ["continuous", "discrete"])
@pytest.mark.parametrize("long_only", [False, True])
@pytest.mark.parametrize("reward", REWARDS)
def test_gymnasium_accepts_it(action: str, long_only: bool, reward: str) -> None:
    check_env(make_single(action, long_only=long_only, reward=reward), skip_render_check=True)


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
    check_env_for_sb3(make_single(action, reward="differential_sharpe"))
    # SB3 warns of a range other than -1..1; its agents rescale to this one, which begins at 0
    with contextlib.nullcontext() if action == "discrete" else pytest.warns(UserWarning, match="symmetric"):
        check_env_for_sb3(make_single(action, long_only=True))


def test_info_has_equity_weight_and_cost() -> None:
    env = make_single()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([0.5, -0.5], dtype=np.float32))
    assert float(reward) == pytest.approx(np.log(info["equity"]))
    assert info["weight"] == pytest.approx([0.5, -0.5], abs=0.05)
    # 1 of notional at 1.5 bps, and short financing of an hour
    assert info["cost"] == pytest.approx(1.5e-4 + 0.5 * 0.02 / 8766, rel=1e-3)


def test_info_has_forced_exits_their_cost_and_tradable_assets() -> None:
    tradable = np.ones((8, 2), dtype=bool)
    tradable[3, 1] = False
    market = with_exits(make_market(np.full((8, 2), 50.0), tradable=tradable), [3], [3])
    env = TradingEnv(
        market,
        SequentialEpisodes([0], [7]),
        env=EnvSpec(),
        cost=CostSpec(10.0, 0.0, 0.0, 0.0),
        reward=RewardSpec(),
        lookback=1,
    )
    _, info = env.reset()
    assert (info["cost"], info["forced"].tolist(), info["tradable"].tolist()) == (
        0.0,
        [False] * 2,
        [True] * 2,
    )
    infos = [env.step(np.array([0.5, 0.5]))[4] for _ in range(4)]
    # bought in bar 1; in bar 3 the first leaves at the open, the other, which does not trade, at the close
    assert [info["forced"].tolist() for info in infos] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert [info["tradable"].tolist() for info in infos] == [
        [True] * 2,
        [True] * 2,
        [True, False],
        [True] * 2,
    ]
    costs = [info["cost"] for info in infos]
    assert costs == pytest.approx([1e-3, 0.0, 1e-3, 0.998 * 1e-3], rel=1e-3)
    assert infos[2]["equity"] == pytest.approx(1.0 - sum(costs[:3]), abs=1e-12)
    assert env.reset()[1]["cost"] == 0.0


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
