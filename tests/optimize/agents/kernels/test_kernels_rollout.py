"""The fused rollout is the vector environment's own: every reward, position and episode, to the bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecNormalize

from envs.episodes import RandomEpisodes, SequentialEpisodes, SessionEpisodes
from envs.rewards import RewardSpec, buy_and_hold_moments
from envs.single import TradingEnv
from envs.spec import EnvSpec
from envs.types import Market
from optimize.agents.kernels.on_policy.collect import RolloutCollector
from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.errors import BadInputError, NumericError
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.support import (
    COSTS,
    LOOKBACK,
    collect,
    furthest,
    make_model,
    make_vec_env,
    observations,
    perturbed_world,
)


def _sessions() -> Market:
    """Return hourly bars with exits before each midnight, at an open or where that is missing at a close."""
    market = make_market(random_walk(400, volatility=0.02), features=5)
    ends = [bar for bar in range(23, 399, 24)]
    return with_exits(market, ends[::2], ends[1::2])


def _gappy() -> Market:
    """Return three assets, each untradable now and then."""
    tradable = np.random.default_rng(1).random((400, 3)) > 0.1
    return make_market(random_walk(400, assets=3, volatility=0.02), features=5, tradable=tradable)


def _moments(market: Market) -> Market:
    return replace(market, hold_moments=buy_and_hold_moments(market, 0, market.n_bars - 1))


SESSIONS, GAPPY = _sessions(), _gappy()
WORLDS: dict[str, dict[str, Any]] = {
    "one asset": {},
    "one row": {"num_envs": 1},
    "choices": {"action": "discrete"},
    "long only": {"action": "discrete", "long_only": True},
    "many assets, not always tradable": {"market": GAPPY, "max_weights": [0.5]},
    "forced exits": {"market": SESSIONS},
    "forced exits at the close": {"market": SESSIONS, "fill": "close"},
    "sessions": {"market": SESSIONS, "episodes": SessionEpisodes(SESSIONS.session, LOOKBACK, 399)},
    "perturbed": perturbed_world(),
    "listed": {"episodes": SequentialEpisodes([5, 90, 200, 31], [50, 99, 215, 380])},
    "ruin": {"market": make_market(random_walk(400, volatility=0.3), features=5), "max_leverage": 4.0},
    "reward in units of volatility": {
        "market": _moments(SESSIONS),
        "reward": RewardSpec(scale="volatility"),
    },
    "remembered reward": {
        "market": _moments(SESSIONS),
        "reward": RewardSpec(name="differential_sharpe"),
    },
}


def _replay(env: SB3VecEnv, collector: RolloutCollector) -> tuple[RolloutBuffer, list[dict[str, Any]]]:
    """Send a rollout's actions through SB3's way of stepping; return its buffer and the episodes."""
    n_envs, n_steps = collector.rewards.reward.shape
    buffer = RolloutBuffer(n_steps, env.observation_space, env.action_space, n_envs=n_envs, gamma=0.0)
    actions = collector.samples.action.reshape(n_envs, n_steps, -1)
    episodes: list[dict[str, Any]] = []
    observation: Any = env.reset()
    done: Any = np.ones(n_envs)
    for step in range(n_steps):
        action: Any = actions[:, step]
        if collector.network.discrete:
            action = action[:, 0].astype(np.int64)
        else:
            assert isinstance(env.action_space, spaces.Box)
            action = np.clip(action, env.action_space.low, env.action_space.high)
        following, reward, ended, infos = env.step(action)
        stored = actions[:, step].astype(buffer.actions.dtype)
        buffer.add(observation, stored, reward, done, torch.zeros(n_envs), torch.zeros(n_envs))
        episodes += [info["episode"] for info in infos if "episode" in info]
        observation, done = following, ended
    np.testing.assert_array_equal(observation, collector.observe())
    np.testing.assert_array_equal(done, collector.last_done())
    return buffer, episodes


@pytest.mark.parametrize("name", WORLDS)
def test_every_step_is_that_of_the_vector_environment(name: str) -> None:
    env = make_vec_env(**WORLDS[name])
    model = make_model(CompiledPPO, env, gamma=0.0, n_steps=150, n_epochs=1, batch_size=50)
    stock = make_vec_env(**WORLDS[name])
    stock.seed(3)
    collect(model)
    collector = model._collector
    buffer, episodes = _replay(stock, collector)
    seen = buffer.swap_and_flatten(buffer.observations)
    np.testing.assert_array_equal(observations(model), seen)
    np.testing.assert_array_equal(collector.rewards.reward.T, buffer.rewards)
    np.testing.assert_array_equal(collector.rewards.done.T[:-1], buffer.episode_starts[1:])
    for array, expected in zip(env.env.env_state.account, stock.env.env_state.account, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert [(one["r"], one["l"]) for one in model.ep_info_buffer] == [
        (one["r"], one["l"]) for one in episodes
    ]
    assert len(episodes) >= (3 if name == "one row" else 10)
    assert env.env.reward_active_share == stock.env.reward_active_share
    if name == "ruin":
        assert any(one["l"] < 40 for one in episodes)


def test_the_next_rollout_goes_on_where_the_last_one_ended() -> None:
    model = make_model(CompiledPPO, gamma=0.0, n_steps=30, n_epochs=1, batch_size=60)
    stock = make_vec_env()
    stock.seed(3)
    actions, rewards = [], []
    for _ in range(4):
        collect(model)
        actions.append(model._collector.samples.action.reshape(4, 30, 1).copy())
        rewards.append(model._collector.rewards.reward.copy())
    stock.reset()
    for step in range(120):
        action = np.clip(actions[step // 30][:, step % 30], -1, 1)
        np.testing.assert_array_equal(stock.step(action)[1], rewards[step // 30][:, step % 30])


def test_positions_and_equity_are_those_of_the_single_environment() -> None:
    market = SESSIONS
    listed = SequentialEpisodes([5], [180])
    env = make_vec_env(market, num_envs=1, episodes=listed)
    model = make_model(CompiledPPO, env, gamma=0.0, n_steps=170, n_epochs=1, batch_size=170)
    single = TradingEnv(market, listed, env=EnvSpec(), cost=COSTS, reward=RewardSpec(), lookback=LOOKBACK)
    observation, _ = single.reset(seed=0)
    collect(model)
    collector, shown = model._collector, observations(model)
    equity = 1.0
    for step in range(170):
        np.testing.assert_array_equal(observation, shown[step])
        action = np.clip(collector.samples.action[step], -1, 1)
        observation, reward, *_, info = single.step(action)
        assert np.float32(reward) == collector.rewards.reward[0, step]
        equity = info["equity"]
        np.testing.assert_array_equal(info["weight"].astype(np.float32), observation[-3:-2])
    assert equity == pytest.approx(env.env.account.equity[0], abs=1e-9)
    np.testing.assert_array_equal(single._row.account.quantity, env.env.account.quantity)


def test_a_truncated_episode_counts_on_and_advantages_are_those_of_sb3() -> None:
    model = make_model(CompiledPPO, gamma=0.9, gae_lambda=0.8, n_steps=150, n_epochs=1, batch_size=50)
    stock = make_vec_env()
    stock.seed(3)
    collect(model)
    collector = model._collector
    buffer, _ = _replay(stock, collector)
    policy = model.policy
    plain = buffer.rewards.copy()
    bootstrapped = collector.rewards.reward.T - plain
    assert (bootstrapped != 0).sum() == (collector.rewards.done != 0).sum() >= 12
    buffer.rewards, buffer.gamma, buffer.gae_lambda = collector.rewards.reward.T.copy(), 0.9, 0.8
    buffer.values = collector.samples.value.reshape(4, 150).T.copy()
    with torch.no_grad():
        last = policy.predict_values(torch.from_numpy(collector.observe()))
    buffer.compute_returns_and_advantage(last, collector.last_done())
    np.testing.assert_allclose(collector.samples.advantage.reshape(4, 150).T, buffer.advantages, atol=1e-6)
    np.testing.assert_allclose(collector.samples.target.reshape(4, 150).T, buffer.returns, atol=1e-6)


def test_the_bootstrapped_value_is_that_of_the_last_observation() -> None:
    env = make_vec_env(episodes=SequentialEpisodes([5], [25]), num_envs=1)
    model = make_model(CompiledPPO, env, gamma=0.9, n_steps=20, n_epochs=1, batch_size=20)
    stock = make_vec_env(episodes=SequentialEpisodes([5], [25]), num_envs=1)
    collect(model)
    stock.reset()
    for step in range(20):
        action = np.clip(model._collector.samples.action[step : step + 1], -1, 1)
        _, reward, _, infos = stock.step(action)
    with torch.no_grad():
        value = model.policy.predict_values(torch.from_numpy(infos[0]["terminal_observation"][None]))
    expected = float(reward[0]) + 0.9 * float(value)
    assert model._collector.rewards.reward[0, -1] == pytest.approx(expected, abs=1e-6)


def test_actions_follow_the_policy() -> None:
    """Gaussians have the policy's mean and deviation, choices its shares."""
    for action in ("continuous", "discrete"):
        env = make_vec_env(action=action, episodes=RandomEpisodes(2, 399, 100))
        model = make_model(CompiledPPO, env, n_steps=4000, n_epochs=1, batch_size=100)
        with torch.no_grad():
            model.policy.action_net.weight *= 40
            if action == "continuous":
                model.policy.log_std.fill_(-0.7)
        collect(model)
        taken = model._collector.samples.action[:, 0]
        with torch.no_grad():
            distribution = model.policy.get_distribution(torch.from_numpy(observations(model))).distribution
        if action == "continuous":
            drawn = (taken - distribution.mean.numpy()[:, 0]) / np.exp(-0.7)
            assert abs(drawn.mean()) < 4 / np.sqrt(len(taken))
            assert drawn.std() == pytest.approx(1.0, abs=0.03)
        else:
            shares = distribution.probs.numpy()
            for choice in range(3):
                spread = np.sqrt((shares[:, choice] * (1 - shares[:, choice])).sum())
                assert abs((taken == choice).sum() - shares[:, choice].sum()) < 4 * spread


def test_same_seed_same_weights_and_another_seed_others() -> None:
    models = [make_model(CompiledPPO, make_vec_env(), n_epochs=2, batch_size=64) for _ in range(2)]
    for model in models:
        torch.manual_seed(9)
        model.set_random_seed(5)
        model.learn(768)
    assert furthest(*models) == 0.0
    other = make_model(CompiledPPO, make_vec_env(), n_epochs=2, batch_size=64)
    other.set_random_seed(6)
    other.learn(768)
    assert furthest(models[0], other) > 0.0


@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_a_policy_that_is_not_a_number_is_a_numeric_error(action: str) -> None:
    model = make_model(CompiledPPO, make_vec_env(action=action), n_epochs=1, batch_size=64)
    with torch.no_grad():
        model.policy.action_net.bias[-1] = float("nan")
    with pytest.raises(NumericError, match="the action of the policy in env row 0 is NaN or infinite"):
        model.learn(256)


def test_a_price_that_is_not_finite_is_a_numeric_error() -> None:
    market = make_market(random_walk(400), features=5)
    market.close[200] = np.nan
    model = make_model(CompiledPPO, make_vec_env(market), n_epochs=1, batch_size=64)
    with pytest.raises(NumericError, match=r"equity of env row \d is not finite after bar 200"):
        model.learn(2000)


def test_another_environment_is_refused() -> None:
    model = make_model(CompiledPPO)
    model.set_env(VecNormalize(make_vec_env()))
    with pytest.raises(BadInputError, match=r"plays an SB3VecEnv and no VecNormalize.*agent\.engine=stock"):
        model.learn(256)


def test_stock_and_compiled_draw_the_same_episodes() -> None:
    starts = []
    for cls in (CompiledPPO, PPO):
        env = make_vec_env()
        drawn: list[int] = []
        draw = env.env.episodes.draw

        def watch(count: int, rng: Any, draw: Any = draw, drawn: list[int] = drawn) -> Any:
            first, last = draw(count, rng)
            drawn.extend(first.tolist())
            return first, last

        env.env.episodes.draw = watch  # type: ignore[method-assign]
        make_model(cls, env, n_epochs=1, batch_size=64).learn(1024)
        starts.append(drawn)
    assert starts[0] == starts[1]
    assert len(starts[0]) == 4 * 7
