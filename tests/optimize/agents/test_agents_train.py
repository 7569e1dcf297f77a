"""Training is reproducible, watched, and learns where there is something to learn."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from envs.costs import CostSpec
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from optimize.agents.agent import Agent
from optimize.agents.registry import ALGORITHMS, find_algorithm
from optimize.agents.sb3.train import train
from optimize.agents.spec import AgentSpec
from optimize.errors import BadInputError, NumericError
from tests.markets import make_market
from tests.optimize.agents.support import (
    LOOKBACK,
    make_env,
    noise_market,
    probe_observations,
    same_weights,
    small_spec,
    train_small,
)
from tests.tiers import mostly_slow

LARGEST_SEED = 2**32 - 1


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_same_seed_gives_the_same_weights(name: str) -> None:
    first = train_small(small_spec(name), seed=LARGEST_SEED)
    train_small(small_spec("ppo"), seed=5)  # another training in the same process
    torch.rand(3)
    again = train_small(small_spec(name), seed=LARGEST_SEED)
    assert same_weights(first, again)
    assert not same_weights(first, train_small(small_spec(name), seed=LARGEST_SEED - 1))


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_training_changes_the_weights_and_stops_at_the_budget(name: str) -> None:
    agent = train_small(small_spec(name))
    untrained = train_small(small_spec(name, learning_rate=1e-30))
    assert not same_weights(agent, untrained)
    assert agent.model is not None
    assert agent.model.num_timesteps == 256


@pytest.mark.parametrize(
    ("name", "shape"), mostly_slow([("ppo", (16, 1)), ("sac", (16, 1)), ("dqn", (16,))], ("ppo", (16, 1)))
)
def test_acts_within_the_action_space(name: str, shape: tuple[int, ...]) -> None:
    agent = train_small(small_spec(name))
    action, state = agent.act(probe_observations(agent), None, np.zeros(16, dtype=bool))
    assert action.shape == shape
    assert state is None
    assert all(agent.policy.action_space.contains(row) for row in action)


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
@pytest.mark.parametrize("deterministic", [True, False])
def test_acts_as_the_policy_predicts(name: str, deterministic: bool) -> None:
    agent = replace(train_small(small_spec(name)), deterministic=deterministic)
    observation, start = probe_observations(agent), np.zeros(16, dtype=bool)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  (SB3's DQN explores by this generator)
    expected, _ = agent.policy.predict(observation, None, start, deterministic=deterministic)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    agent.policy.set_training_mode(True)  # as a training leaves it
    action, _ = agent.act(observation, None, start)
    assert not agent.policy.training
    np.testing.assert_array_equal(action, expected)
    assert action.dtype == expected.dtype


def test_a_policy_that_predicts_in_its_own_way_threads_its_state() -> None:
    agent = train_small(small_spec("ppo"))

    class Recurrent(type(agent.policy)):  # type: ignore[misc]
        def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
            memory = np.where(episode_start, 0, state if state is not None else 7)
            return memory[:, None].astype(np.float32), memory + 1

    agent.policy.__class__ = Recurrent
    observation, none = probe_observations(agent), np.zeros(16, dtype=bool)
    _, state = agent.act(observation, None, none)
    some = np.arange(16) % 2 == 0
    action, state = agent.act(observation, state, some)
    np.testing.assert_array_equal(action[:, 0], np.where(some, 0, 8))
    np.testing.assert_array_equal(state, np.where(some, 1, 9))
    env = make_env(noise_market(), "ppo", num_envs=1)
    assert agent.fuse(env.env_state, env.reward_function) is None  # it would forget


def test_stochastic_actions_repeat_by_seed() -> None:
    agent = train_small(small_spec("ppo"))
    observation, start = probe_observations(agent), np.zeros(16, dtype=bool)
    fixed = agent.act(observation, None, start)[0]
    sampled = [agent.stochastic(seed).act(observation, None, start)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(sampled[0], sampled[1])
    assert not np.array_equal(sampled[0], sampled[2])
    assert not np.array_equal(sampled[0], fixed)


def test_ppo_trains_on_discrete_actions() -> None:
    market = noise_market()
    agent = train(
        small_spec("ppo"),
        market,
        (LOOKBACK - 1, market.n_bars - 1),
        env=EnvSpec(action="discrete"),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=LOOKBACK,
        seed=0,
    )
    assert agent.act(probe_observations(agent), None, np.zeros(16, dtype=bool))[0].max() <= 2


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_report_is_called_and_stops(name: str) -> None:
    reports: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        reports.append((step, value))
        return len(reports) == 2

    agent = train_small(small_spec(name, total_timesteps=2048), report=report)
    assert agent.model is not None
    steps = [step for step, _ in reports]
    assert len(steps) == 2
    assert steps == sorted(set(steps))
    assert steps[-1] <= agent.model.num_timesteps < 512
    assert math.isfinite(reports[-1][1])


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_last_report_is_at_the_end(name: str) -> None:
    reports: list[int] = []

    def report(step: int, _: float) -> bool:
        reports.append(step)
        return False

    train_small(small_spec(name), report=report)
    assert reports[-1] == 256
    assert len(reports) >= 2


@pytest.mark.parametrize("engine", ["auto", "stock"])
@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_divergence_is_a_numeric_error(name: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls: Any = find_algorithm(name).load("stock" if engine == "stock" else "compiled")
    learn_once = cls.train

    def poison(self: Any, *args: Any, **kwargs: Any) -> None:
        learn_once(self, *args, **kwargs)
        with torch.no_grad():
            next(self.policy.parameters()).fill_(math.nan)

    monkeypatch.setattr(cls, "train", poison)
    with pytest.raises(NumericError):
        train_small(small_spec(name, engine=engine))


def test_a_loss_that_is_not_a_number_is_a_numeric_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cls: Any = find_algorithm("ppo").load("compiled")
    learn_once = cls.train

    def poison(self: Any) -> None:
        learn_once(self)
        self.logger.record("train/value_loss", math.inf)

    monkeypatch.setattr(cls, "train", poison)
    with pytest.raises(
        NumericError, match=r"train/value_loss became inf after 128 steps; .* agent.learning_rate"
    ):
        train_small(small_spec("ppo"))


def test_a_bad_feature_is_a_numeric_error_that_names_it() -> None:
    market = noise_market()
    features = market.features.copy()
    features[100, 0, 1] = np.nan
    with pytest.raises(NumericError, match="feature_1 is NaN or infinite at bar 100"):
        train_small(small_spec("ppo"), replace(market, features=features))


def test_an_unfit_action_is_refused() -> None:
    market = noise_market()
    with pytest.raises(BadInputError, match=r"env.action='discrete' does not fit agent.name='sac'"):
        train(
            small_spec("sac"),
            market,
            (LOOKBACK - 1, market.n_bars - 1),
            env=EnvSpec(action="discrete"),
            cost=CostSpec(),
            reward=RewardSpec(),
            lookback=LOOKBACK,
            seed=0,
        )


def test_ppo_beats_flat_if_a_feature_predicts_the_next_return() -> None:
    sign = np.random.default_rng(8).choice([-1.0, 1.0], size=600)
    close = 100 * np.exp(np.cumsum(0.01 * sign))
    feature = np.roll(sign, -1).astype(np.float32)[:, None, None]  # the sign of the return that follows
    market = make_market(close, features=feature)
    spec = AgentSpec(total_timesteps=8192, hyperparameters={"n_steps": 64, "batch_size": 128, "gamma": 0.5})
    agent = train_small(spec, market, seed=2)
    assert _mean_log_return(agent, market) > 0.5 * 0.01 * 40  # half of an oracle's log return over 40 bars


def test_a_linear_policy_of_one_step_finds_a_planted_edge() -> None:
    rng = np.random.default_rng(4)
    known, noise = rng.normal(size=(2, 800))
    close = 100 * np.exp(np.cumsum(0.01 * (0.5 * np.roll(known, 1) + noise)))  # it pays one bar later
    market = make_market(close, features=np.stack([known, rng.normal(size=800)], axis=1)[:, None])
    settings = {"n_steps": 64, "batch_size": 128, "gamma": 0.0, "learning_rate": 0.003}
    agent = train_small(AgentSpec(net="linear", total_timesteps=8192, hyperparameters=settings), market)
    policy: Any = agent.policy
    weights = policy.action_net.weight.detach().numpy()[0]
    newest = 2 * (LOOKBACK - 1)
    assert weights[newest] > 2.5 * np.abs(np.delete(weights[: 2 * LOOKBACK], newest)).max()
    assert _mean_log_return(agent, market) > 0.1  # the oracle holds 40 bars of a mean return of 0.4 %


def _mean_log_return(agent: Agent, market: Any) -> float:
    env = make_env(market, "ppo", num_envs=16)
    observation, _ = env.reset(seed=4)
    start = np.zeros(16, dtype=bool)
    for _ in range(40):
        observation, *_, infos = env.step(agent.act(observation, None, start)[0])
    return float(infos["episode_return"].mean())


def test_the_log_names_the_engine_and_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="optimize.agents.sb3.train"):
        train_small(small_spec("ppo", engine="auto", hyperparameters={"use_sde": True}))
        train_small(small_spec("ppo", engine="auto"))
    assert [record.getMessage() for record in caplog.records] == [
        "agent.engine=auto: stock trains ppo, for agent.use_sde=true is not compiled",
        "agent.engine=auto: compiled trains ppo, for there are kernels for its networks on a CPU",
    ]
