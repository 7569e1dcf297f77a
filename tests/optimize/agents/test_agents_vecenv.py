"""The adapter gives SB3 the same values as a rollout of the environment by hand."""

import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.errors import NumericError
from tests.optimize.agents.support import make_env, noise_market

N_ENVS, BARS = 3, 15


@pytest.fixture
def vec_env() -> SB3VecEnv:
    return SB3VecEnv(make_env(noise_market(), "ppo", num_envs=N_ENVS, bars=BARS))


def test_equals_a_hand_rollout(vec_env: SB3VecEnv) -> None:
    hand = make_env(noise_market(), "ppo", num_envs=N_ENVS, bars=BARS)
    rng = np.random.default_rng(3)
    vec_env.seed(11)
    expected, _ = hand.reset(seed=11)
    np.testing.assert_array_equal(vec_env.reset(), expected)
    total = np.zeros(N_ENVS)
    ended = 0
    for step in range(1, 4 * BARS):
        actions = rng.uniform(-1, 1, size=(N_ENVS, 1)).astype(np.float32)
        observation, reward, done, infos = vec_env.step(actions)
        expected, hand_reward, terminated, truncated, hand_infos = hand.step(actions)
        total += hand_reward
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(reward, hand_reward.astype(np.float32))
        np.testing.assert_array_equal(done, terminated | truncated)
        assert reward.dtype == np.float32
        for index in range(N_ENVS):
            if not done[index]:
                assert infos[index] == {}
                continue
            ended += 1
            info = infos[index]
            np.testing.assert_array_equal(info["terminal_observation"], hand_infos["final_obs"][index])
            assert info["TimeLimit.truncated"] is bool(truncated[index] and not terminated[index])
            assert info["episode"]["l"] == BARS
            assert info["episode"]["r"] == total[index]
            assert info["episode"]["r"] == pytest.approx(hand_infos["episode_return"][index], abs=1e-12)
            assert info["episode"]["t"] >= 0
            total[index] = 0.0
        assert bool(done.any()) is (step % BARS == 0)
    assert ended == 3 * N_ENVS


def test_observations_outlive_the_next_step(vec_env: SB3VecEnv) -> None:
    first = np.asarray(vec_env.reset())
    kept = first.copy()
    vec_env.step(np.ones((N_ENVS, 1), dtype=np.float32))
    np.testing.assert_array_equal(first, kept)


def test_is_a_monitored_vec_env(vec_env: SB3VecEnv) -> None:
    assert isinstance(vec_env, VecEnv)
    assert vec_env.env_is_wrapped(Monitor) == [True] * N_ENVS
    assert vec_env.get_attr("num_envs", indices=[0, 2]) == [N_ENVS] * 2
    assert not vec_env.has_attr("no_such_attribute")
    vec_env.set_attr("label", "x")
    assert vec_env.get_attr("label") == ["x"] * N_ENVS
    with pytest.raises(IndexError, match="all environments of a batch change together"):
        vec_env.set_attr("label", "y", indices=0)


def test_a_diverged_policy_is_a_numeric_error(vec_env: SB3VecEnv) -> None:
    vec_env.reset()
    with pytest.raises(NumericError, match="nan"):
        vec_env.step(np.full((N_ENVS, 1), np.nan, dtype=np.float32))


def test_seed_repeats_and_is_used_once(vec_env: SB3VecEnv) -> None:
    observations = []
    for seed in (7, 7, None, 2**32 - 1):
        if seed is not None:
            vec_env.seed(seed)
        observations.append(np.asarray(vec_env.reset()).copy())
    np.testing.assert_array_equal(observations[0], observations[1])
    assert not np.array_equal(observations[1], observations[2])
    assert not np.array_equal(observations[1], observations[3])
