"""The compiled classes beside stable-baselines3's own: copies, callbacks, replays, schedules, seeds."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)

from optimize.agents.kernels.off_policy.dqn import CompiledDQN
from optimize.agents.kernels.off_policy.sac import CompiledSAC
from optimize.agents.kernels.off_policy.td3 import CompiledTD3
from optimize.agents.kernels.on_policy.a2c import CompiledA2C
from optimize.agents.kernels.on_policy.ppo import CompiledPPO
from optimize.agents.sb3.callbacks import TrainingMonitor, wants_every_step
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.errors import BadInputError
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.off_policy_support import make_off_policy
from tests.optimize.agents.kernels.support import furthest, make_model, make_vec_env
from tests.tiers import mostly_slow

STOCK: dict[Any, Any] = {
    CompiledPPO: PPO,
    CompiledA2C: A2C,
    CompiledSAC: SAC,
    CompiledTD3: TD3,
    CompiledDQN: DQN,
}
ALL = list(STOCK)
OFF_POLICY = [CompiledSAC, CompiledTD3, CompiledDQN]
ROWS = 2


def is_off_policy(cls: Any) -> bool:
    return issubclass(cls, (SAC, TD3, DQN))


def env_of(cls: Any) -> SB3VecEnv:
    return make_vec_env(num_envs=ROWS, action="discrete" if issubclass(cls, DQN) else "continuous")


def made(cls: Any, **settings: Any) -> Any:
    """Return a small model of either engine."""
    if is_off_policy(cls):
        return make_off_policy(cls, env_of(cls), **settings)
    batch = {"batch_size": 16} if issubclass(cls, PPO) else {}
    return make_model(cls, env_of(cls), **{"n_steps": 16} | batch | settings)


def learn(model: Any, steps: int = 160, callback: Any = None) -> Any:
    """Continue training with reseeded generators, so that earlier draws make no difference."""
    np.random.seed(0)  # noqa: NPY002 (SB3 draws from the global generator)
    torch.manual_seed(0)
    return model.learn(steps, callback=callback, reset_num_timesteps=model.num_timesteps == 0)


def weights(model: Any) -> list[NDArray[Any]]:
    return [parameter.detach().numpy().copy() for parameter in model.policy.parameters()]


def same(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_a_copy_learns_as_the_model_would_have(cls: Any, copied: Callable[[Any], Any]) -> None:
    model = learn(made(cls))
    twin, before = copied(model), weights(model)
    assert same(weights(twin), before)
    learn(twin)
    assert not same(weights(twin), before)
    assert same(weights(model), before)
    learn(model)
    assert same(weights(model), weights(twin))


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_a_copy_of_an_untrained_model_learns(cls: Any) -> None:
    model = made(cls)
    assert same(weights(learn(copy.deepcopy(model))), weights(learn(model)))


class Counting(BaseCallback):
    """Count calls, and remember at which steps and with which locals they came."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []
        self.rollouts = 0
        self.ended = 0

    def _on_rollout_start(self) -> None:
        self.rollouts += 1

    def _on_step(self) -> bool:
        self.at.append(self.num_timesteps)
        done, infos = self.locals["dones"], self.locals["infos"]
        assert len(done) == len(infos) == len(self.locals["rewards"]) == len(self.locals["new_obs"]) == ROWS
        assert [bool(each) for each in done] == ["episode" in info for info in infos]
        self.ended += int(np.sum(done))
        return True


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_callbacks_are_called_after_the_same_steps_as_beside_stock(cls: Any) -> None:
    counted = []
    for each in (cls, STOCK[cls]):
        callback = Counting()
        learn(made(each), callback=CallbackList([callback]))
        counted.append(callback)
    ours, theirs = counted
    assert ours.at == theirs.at == list(range(ROWS, 160 + 1, ROWS))
    assert (ours.rollouts, ours.ended) == (theirs.rollouts, theirs.ended)
    assert ours.ended > 0


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_a_callback_that_counts_steps_changes_no_weight(cls: Any) -> None:
    assert not wants_every_step(CallbackList([TrainingMonitor(None, 1)]))
    assert wants_every_step(CallbackList([TrainingMonitor(None, 1), Counting()]))
    plain, counted = learn(made(cls)), learn(made(cls), callback=Counting())
    assert furthest(plain, counted) < 1e-6


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_sb3s_own_callbacks_act(cls: Any, tmp_path: Path) -> None:
    checkpoint = CheckpointCallback(
        save_freq=10, save_path=str(tmp_path), save_replay_buffer=is_off_policy(cls)
    )
    evaluation = EvalCallback(env_of(cls), eval_freq=20, n_eval_episodes=2, verbose=0, warn=False)
    learn(made(cls), callback=CallbackList([checkpoint, evaluation]))
    assert len(list(tmp_path.glob("rl_model_*_steps.zip"))) == 160 // ROWS // 10
    assert evaluation.n_calls == 160 // ROWS
    assert np.isfinite(evaluation.last_mean_reward)
    limited = made(cls)
    learn(limited, 2000, StopTrainingOnMaxEpisodes(max_episodes=1))
    assert 0 < limited.num_timesteps < 2000


@pytest.mark.slow
@pytest.mark.parametrize("cls", OFF_POLICY)
def test_a_saved_replay_is_gone_on_from(cls: Any, tmp_path: Path) -> None:
    model = learn(made(cls))
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay")
    loaded = cls.load(tmp_path / "model", env=env_of(cls), device="cpu")
    loaded.load_replay_buffer(tmp_path / "replay")
    for left, right in zip(loaded._collector.replay, model._collector.replay, strict=True):
        np.testing.assert_array_equal(left, right)
    later = cls.load(tmp_path / "model", device="cpu")
    later.load_replay_buffer(tmp_path / "replay")
    later.set_env(env_of(cls))
    for each in (loaded, later):
        assert same(weights(each), weights(model))
        assert not same(weights(learn(each)), weights(model))
    assert later._collector.filled > 160 // ROWS


@pytest.mark.slow
@pytest.mark.parametrize("cls", OFF_POLICY)
def test_a_replay_that_means_nothing_here_is_refused(cls: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no replay to save"):
        made(cls).save_replay_buffer(tmp_path / "none")
    learn(made(STOCK[cls])).save_replay_buffer(tmp_path / "stock")
    with pytest.raises(BadInputError, match=r"ReplayBuffer of observations.*agent\.engine=stock"):
        made(cls).load_replay_buffer(tmp_path / "stock")
    learn(made(cls)).save_replay_buffer(tmp_path / "replay")
    action = "discrete" if cls is CompiledDQN else "continuous"
    market = make_market(random_walk(400, volatility=0.02, seed=9), features=5)
    for others in (
        make_vec_env(market, num_envs=ROWS, action=action),
        make_vec_env(num_envs=3, action=action),
    ):
        with pytest.raises(BadInputError, match="does not fit these"):
            make_off_policy(cls, others).load_replay_buffer(tmp_path / "replay")


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_a_schedule_of_the_learning_rate_ends_where_stock_ends(cls: Any) -> None:
    rates = []
    for each in (cls, STOCK[cls]):
        model = learn(made(each, learning_rate=lambda left: 0.01 * left + 1e-5))
        optimizer = model.actor.optimizer if hasattr(model, "actor") else model.policy.optimizer
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_parameters_are_set_and_read_as_stock_does(cls: Any) -> None:
    model, other, stock = learn(made(cls)), made(cls), made(STOCK[cls])
    for target in (other, stock):
        target.set_parameters(model.get_parameters())
        assert same(weights(target), weights(model))
    assert other.get_parameters().keys() == stock.get_parameters().keys()
    learn(other)
    assert not same(weights(other), weights(model))
    model.set_parameters(stock.get_parameters(), exact_match=True)
    assert same(weights(model), weights(stock))


@pytest.mark.parametrize("cls", mostly_slow(ALL, CompiledPPO))
def test_seeds_environments_and_arguments_come_back(cls: Any, tmp_path: Path) -> None:
    one, two, other = learn(made(cls)), learn(made(cls)), made(cls)
    assert same(weights(one), weights(two))
    other.set_random_seed(99)
    assert not same(weights(learn(other)), weights(one)) or cls is CompiledDQN
    assert isinstance(one.get_env(), SB3VecEnv)
    one.save(tmp_path / "model")
    loaded: BaseAlgorithm = cls.load(tmp_path / "model", device="cpu")
    assert loaded.policy_kwargs == one.policy_kwargs
    assert (loaded.seed, loaded.gamma, loaded.n_envs) == (one.seed, one.gamma, one.n_envs)  # type: ignore[attr-defined]
    observation = env_of(cls).reset()
    expected = one.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)
