"""The compiled loop steps and stores the same transitions as SB3's own loop with the same actions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer

from envs.episodes import SequentialEpisodes, SessionEpisodes
from envs.rewards import RewardSpec, buy_and_hold_moments
from optimize.agents.kernels.off_policy.dqn import CompiledDQN
from optimize.agents.kernels.off_policy.replay import make_replay
from optimize.agents.kernels.off_policy.sac import CompiledSAC
from optimize.agents.kernels.off_policy.td3 import CompiledTD3
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.off_policy_support import (
    gather_steps,
    hand_over_replay,
    make_off_policy,
    repeat_steps,
)
from tests.optimize.agents.kernels.support import LOOKBACK, furthest, make_vec_env, perturbed_world

HOURLY = make_market(random_walk(400, volatility=0.02), features=5)
SESSIONS = with_exits(HOURLY, [*range(23, 399, 48)], [*range(47, 399, 48)])
GAPPY = make_market(
    random_walk(400, assets=3, volatility=0.02),
    features=5,
    tradable=np.random.default_rng(1).random((400, 3)) > 0.1,
)
RUINOUS = make_market(random_walk(400, volatility=0.3), features=5)
MOODY = replace(SESSIONS, hold_moments=buy_and_hold_moments(SESSIONS, 0, 399))

CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "SAC": (CompiledSAC, SAC, {}),
    "SAC, one row": (CompiledSAC, SAC, {"num_envs": 1}),
    "SAC, many assets": (CompiledSAC, SAC, {"market": GAPPY, "max_weights": [0.5]}),
    "SAC, long only": (CompiledSAC, SAC, {"long_only": True, "fill": "close"}),
    "SAC, ruin": (CompiledSAC, SAC, {"market": RUINOUS, "max_leverage": 4.0}),
    "SAC, sessions": (
        CompiledSAC,
        SAC,
        {"market": SESSIONS, "episodes": SessionEpisodes(SESSIONS.session, LOOKBACK, 399)},
    ),
    "SAC, remembered reward": (
        CompiledSAC,
        SAC,
        {"market": MOODY, "reward": RewardSpec(name="differential_sharpe")},
    ),
    "SAC, reward in units of volatility": (
        CompiledSAC,
        SAC,
        {"market": MOODY, "reward": RewardSpec(scale="volatility")},
    ),
    "TD3": (CompiledTD3, TD3, {"episodes": SequentialEpisodes([5, 90, 200], [50, 99, 215])}),
    "SAC, perturbed": (CompiledSAC, SAC, perturbed_world()),
    "TD3, perturbed": (CompiledTD3, TD3, perturbed_world()),
    "DQN, perturbed": (CompiledDQN, DQN, {"action": "discrete"} | perturbed_world()),
    "DQN": (CompiledDQN, DQN, {"action": "discrete"}),
    "DQN, long only": (CompiledDQN, DQN, {"action": "discrete", "long_only": True, "market": SESSIONS}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_transition_is_that_of_sb3(name: str) -> None:
    compiled, plain, world = CASES[name]
    models = [
        make_off_policy(cls, make_vec_env(**{"num_envs": 4} | world), buffer_size=401, train_freq=1)
        for cls in (compiled, plain)
    ]
    ours, stock = models
    gather_steps(ours, 90)
    repeat_steps(ours, stock, 90)
    buffer, seen = (
        stock.replay_buffer,
        ReplayBuffer(401, ours.observation_space, ours.action_space, n_envs=ours.n_envs),
    )
    copy = make_off_policy(plain, make_vec_env(**{"num_envs": 4} | world), buffer_size=401)
    copy.replay_buffer = seen
    hand_over_replay(ours, copy)
    filled = 90
    assert (seen.pos, seen.full) == (buffer.pos, buffer.full) == (90, False)
    for key in ("actions", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(seen, key)[:filled], getattr(buffer, key)[:filled], err_msg=key)
    np.testing.assert_allclose(seen.rewards[:filled], buffer.rewards[:filled], rtol=0, atol=1e-9)
    for key in ("observations", "next_observations"):
        np.testing.assert_allclose(
            getattr(seen, key)[:filled], getattr(buffer, key)[:filled], rtol=1e-6, atol=1e-9, err_msg=key
        )
    assert [one["l"] for one in ours.ep_info_buffer] == [one["l"] for one in stock.ep_info_buffer]
    np.testing.assert_allclose(
        [one["r"] for one in ours.ep_info_buffer], [one["r"] for one in stock.ep_info_buffer], atol=1e-9
    )
    assert ours._episode_num == stock._episode_num >= (2 if "one row" in name else 8)
    np.testing.assert_allclose(ours._last_obs, stock._last_obs, rtol=1e-6, atol=1e-9)
    env, same = ours.get_env().env, stock.get_env().env
    assert env.reward_active_share == same.reward_active_share
    if "ruin" in name:
        assert (buffer.dones > buffer.timeouts).any()
        assert min(one["l"] for one in ours.ep_info_buffer) < 40


@pytest.mark.slow
def test_actions_are_those_of_the_policy() -> None:
    for compiled, action in (
        (CompiledSAC, "continuous"),
        (CompiledTD3, "continuous"),
        (CompiledDQN, "discrete"),
    ):
        model = make_off_policy(
            compiled,
            make_vec_env(num_envs=2, action=action),
            learning_starts=0,
            train_freq=400,
            gradient_steps=0,
        )
        if action == "discrete":
            model.exploration_rate = model.exploration_initial_eps = model.exploration_final_eps = 0.0
            model._setup_model()
        model.learn(800)
        copy = make_off_policy(
            compiled.__bases__[1], make_vec_env(num_envs=2, action=action), buffer_size=2000
        )
        hand_over_replay(model, copy)
        seen = torch.from_numpy(copy.replay_buffer.observations[:400].reshape(800, -1))
        taken = copy.replay_buffer.actions[:400].reshape(800, -1)
        with torch.no_grad():
            if compiled is CompiledSAC:
                mean, log_std, _ = model.actor.get_action_dist_params(seen)
                drawn = (np.arctanh(taken.astype(np.float64)) - mean.numpy()) / np.exp(log_std.numpy())
                assert abs(drawn.mean()) < 4 / np.sqrt(800)
                assert drawn.std() == pytest.approx(1.0, abs=0.1)
            elif compiled is CompiledTD3:
                np.testing.assert_allclose(taken, model.actor(seen).numpy(), atol=1e-6)
            else:
                np.testing.assert_array_equal(taken[:, 0], model.q_net(seen).argmax(dim=1).numpy())


@pytest.mark.slow
def test_the_target_network_of_dqn_follows_while_steps_are_taken() -> None:
    ours, stock = (
        make_off_policy(
            cls, make_vec_env(num_envs=2, action="discrete"), target_update_interval=15, tau=0.3, train_freq=1
        )
        for cls in (CompiledDQN, DQN)
    )
    for model in (ours, stock):
        with torch.no_grad():
            for parameter in model.q_net.parameters():
                parameter += 1.0
    gather_steps(ours, 100)
    repeat_steps(ours, stock, 100)
    assert furthest(ours, stock) < 1e-6
    assert ours._n_calls == stock._n_calls == 100
    distance = float((ours.q_net.q_net[0].bias - ours.q_net_target.q_net[0].bias).detach().mean())
    assert distance == pytest.approx(0.7 ** (100 // 7), rel=1e-3)


def test_a_million_transitions_take_less_than_100_mb() -> None:
    replay = make_replay(1_000_000, 4, 3, 1)
    assert sum(array.nbytes for array in replay) < 40e6
