"""Agents in the environments on offer: stateful rewards, whole sessions, long positions only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.rewards import RewardSpec, buy_and_hold_moments
from envs.spec import EnvSpec
from envs.types import Market
from optimize.agents.agent import Agent, load_agent
from optimize.agents.sb3.train import train
from optimize.errors import BadInputError
from tests.optimize.agents.support import LOOKBACK, noise_market, probe_observations, small_spec
from tests.tiers import mostly_slow


def trained(
    name: str,
    *,
    env: EnvSpec | None = None,
    reward: str = "net_log_return",
    clip: float = 10.0,
    last: int | None = None,
) -> Agent:
    market = fitted(noise_market(12 * 24))
    return train(
        small_spec(name),
        market,
        (LOOKBACK - 1, market.n_bars - 1 if last is None else last),
        env=env or EnvSpec(episode_bars=40),
        cost=CostSpec(),
        reward=RewardSpec(reward, clip=clip),
        lookback=LOOKBACK,
        seed=1,
    )


def fitted(market: Market) -> Market:
    return replace(market, hold_moments=buy_and_hold_moments(market, 0, market.n_bars - 1))


@pytest.mark.parametrize("name", mostly_slow(["ppo", "dqn"], "ppo"))
def test_an_agent_knows_how_often_its_differential_reward_was_active(name: str, tmp_path: Path) -> None:
    free, clipped = (trained(name, reward="differential_sharpe", clip=clip) for clip in (10.0, 0.05))
    assert free.reward_active_share is not None
    assert clipped.reward_active_share is not None
    assert 0.0 < clipped.reward_active_share < free.reward_active_share <= 1.0
    assert free.stochastic(1).reward_active_share == free.reward_active_share
    free.save(tmp_path)
    assert load_agent(tmp_path).reward_active_share is None
    window = LOOKBACK * 2
    assert free.policy.observation_space.shape == (window + 3 + 2,)


def test_a_reward_without_floor_and_clip_has_no_active_share() -> None:
    assert trained("ppo", reward="drawdown_penalised").reward_active_share is None


def test_an_agent_can_train_on_whole_sessions() -> None:
    by_session, by_bars = (trained("ppo", env=EnvSpec(episode=kind)) for kind in ("session", "bars"))
    assert by_session.model is not None
    lengths = {episode["l"] for episode in by_session.model.ep_info_buffer or ()}
    assert lengths == {23}  # a day of hours, decided from the close of the first to the open of the last
    assert by_bars.model is not None
    assert {episode["l"] for episode in by_bars.model.ep_info_buffer or ()} != {23}
    with pytest.raises(BadInputError, match="no whole session"):
        trained("ppo", env=EnvSpec(episode="session"), last=40)


@pytest.mark.parametrize(
    ("name", "discrete"), mostly_slow([("ppo", False), ("sac", False), ("dqn", True)], ("ppo", False))
)
def test_a_long_only_agent_is_loaded_as_one(name: str, discrete: bool, tmp_path: Path) -> None:
    agent = trained(name, env=EnvSpec(long_only=True, episode_bars=40))
    observations, start = probe_observations(agent, 64), np.ones(64, dtype=bool)
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert loaded.policy.action_space == agent.policy.action_space
    actions, _ = agent.act(observations, None, start)
    np.testing.assert_array_equal(loaded.act(observations, None, start)[0], actions)
    assert actions.min() >= 0
    assert actions.max() <= 1
    assert np.issubdtype(actions.dtype, np.integer) == discrete
