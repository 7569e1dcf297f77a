"""A network plays spans in one compiled call as stable-baselines3 plays them step by step."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from optimize.agents.agent import Agent
from optimize.agents.kernels.fused.policy import read_policy_layers
from optimize.agents.registry import action_of, find_algorithm
from optimize.agents.spec import AgentSpec
from optimize.errors import NumericError
from optimize.evaluate.rollout import Evaluation, rollout
from tests.envs.environments import with_exits
from tests.markets import make_market, random_walk
from tests.optimize.agents.kernels.support import COSTS, LOOKBACK, make_vec_env
from tests.optimize.agents.support import LOOKBACK as TRAINED_LOOKBACK
from tests.optimize.agents.support import make_env, noise_market, small_spec, train_small
from tests.tiers import mostly_slow

SPANS = [(10, 299), (310, 315), (320, 599)]  # longer and shorter than a chunk of bars
ALGORITHMS = {"ppo": PPO, "a2c": A2C, "sac": SAC, "td3": TD3, "dqn": DQN}


def make_test_market(assets: int = 1, exits: bool = False) -> Market:
    market = make_market(random_walk(600, assets=assets, volatility=0.02), features=5)
    late = [bar for bar in range(600) if bar % 24 in (22, 23)]
    return with_exits(market, late, range(23, 600, 24)) if exits else market


def make_agent(
    name: str,
    market: Market,
    env: EnvSpec,
    *,
    net: tuple[int, ...] = (16, 24),
    relu: bool = False,
    reward: RewardSpec | None = None,
    seed: int = 0,
    **policy: Any,
) -> Agent:
    """Return an agent that learned nothing, with a last layer that spreads its actions over their range."""
    rules: dict[str, Any] = {"long_only": env.long_only, "reward": reward}
    vec_env = make_vec_env(market, num_envs=1, action=env.action, **rules)
    layers = {"net_arch": list(net), "activation_fn": nn.ReLU if relu else nn.Tanh} | policy
    model: Any = ALGORITHMS[name]("MlpPolicy", vec_env, device="cpu", seed=seed, policy_kwargs=layers)
    with torch.no_grad():
        last = last_layer(model.policy)
        last.weight.mul_(40 if name in ("ppo", "a2c") else 3)
        last.bias.normal_(0, 0.02)
    return Agent(AgentSpec(name=name, engine="stock"), model.policy)


def last_layer(policy: BasePolicy) -> nn.Linear:
    head = read_policy_layers(policy)
    assert head is not None
    return head.layers[-1]


def play(policy: Any, market: Market, env: EnvSpec, **options: Any) -> tuple[Evaluation, ...]:
    terms: dict[str, Any] = {"cost": COSTS, "reward": RewardSpec(), "lookback": LOOKBACK} | options
    return rollout(policy, market, terms.pop("spans", SPANS), env=env, **terms)


def stepped(agent: Agent) -> Agent:
    """Return the agent, asked step by step."""
    return replace(agent, fused=False)


@dataclass
class Watcher:
    """Send recorded actions and keep the actions that the agent would have sent."""

    agent: Agent
    actions: list[NDArray[Any]]
    sent: list[NDArray[Any]] = field(default_factory=list)

    def act(self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]) -> Any:
        step = len(self.sent)
        self.sent.append(self.agent.act(observation, None, start)[0])
        return np.stack([action[min(step, len(action) - 1)] for action in self.actions]), None


def assert_same(one: Any, other: Any, tolerance: float) -> None:
    for left, right in zip(one, other, strict=True):
        for part in fields(Evaluation):
            mine, theirs = getattr(left, part.name), getattr(right, part.name)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance, err_msg=part.name)


def check(agent: Agent, market: Market, env: EnvSpec, **options: Any) -> tuple[Evaluation, ...]:
    """Compare the fused rollout with the ledger in lock step and with SB3's action at every step."""
    fused = play(agent, market, env, **options)
    watcher = Watcher(stepped(agent), [evaluation.action for evaluation in fused])
    assert_same(fused, play(watcher, market, env, **options), 0.0)
    for row, evaluation in enumerate(fused):
        steps = len(evaluation.action) if not evaluation.ruined else np.flatnonzero(evaluation.equity)[-1] + 2
        sent = np.stack([actions[row] for actions in watcher.sent[:steps]])
        np.testing.assert_allclose(evaluation.action[:steps], sent, rtol=0, atol=1e-6)
    return fused


@pytest.mark.parametrize(
    ("name", "env", "assets", "options"),
    mostly_slow(
        [
            ("ppo", EnvSpec(), 1, {}),
            ("ppo", EnvSpec(action="discrete"), 1, {"relu": True}),
            ("ppo", EnvSpec(long_only=True, fill="close"), 3, {"net": (16,)}),
            ("ppo", EnvSpec(), 1, {"share_features_extractor": False}),
            ("ppo", EnvSpec(), 1, {"reward": RewardSpec(name="differential_sharpe")}),
            ("a2c", EnvSpec(max_leverage=2.0), 2, {"relu": True, "net": (8, 16, 24)}),
            ("a2c", EnvSpec(action="discrete", long_only=True), 1, {"net": (8, 16, 24)}),
            ("sac", EnvSpec(), 2, {"relu": True}),
            ("sac", EnvSpec(long_only=True), 1, {}),
            ("td3", EnvSpec(), 2, {"relu": True, "net": (8, 16, 24)}),
            ("td3", EnvSpec(long_only=True), 1, {}),
            ("dqn", EnvSpec(action="discrete"), 1, {"relu": True}),
            ("dqn", EnvSpec(action="discrete", long_only=True), 1, {"net": (16,)}),
            ("ppo", EnvSpec(), 2, {"net": ()}),
            ("td3", EnvSpec(), 2, {"net": ()}),
            ("sac", EnvSpec(), 2, {"net": ()}),
            ("dqn", EnvSpec(action="discrete"), 1, {"net": ()}),
        ],
        ("ppo", EnvSpec(), 1, {}),
        ("ppo", EnvSpec(long_only=True, fill="close"), 3, {"net": (16,)}),
        ("dqn", EnvSpec(action="discrete"), 1, {"relu": True}),
        ("ppo", EnvSpec(), 2, {"net": ()}),
    ),
)
def test_fused_is_lock_step_is_one_by_one(
    name: str, env: EnvSpec, assets: int, options: dict[str, Any]
) -> None:
    reward = options.get("reward", RewardSpec())
    market = make_test_market(assets, exits=True)
    if reward.name != "net_log_return":
        market = replace(market, hold_moments=np.array([1e-4, 4e-4, 0.02]))
    agent = make_agent(name, market, env, **options)
    fused = check(agent, market, env, reward=reward)
    assert_same(fused, play(stepped(agent), market, env, reward=reward), 1e-6)
    apart = [play(agent, market, env, reward=reward, spans=[span])[0] for span in SPANS]
    assert_same(fused, apart, 0.0)
    assert np.std(fused[0].action) > 0.05
    assert fused[0].forced.any()
    assert fused[0].fills.sum() > 15


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 40), max_size=3),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(
        [(name, action) for name in ALGORITHMS for action in sorted(find_algorithm(name).actions)]
    ),
)
@settings(max_examples=30, deadline=None)
@pytest.mark.slow
def test_networks_of_any_shape_algorithm_and_action(
    seed: int, net: list[int], assets: int, relu: bool, kind: tuple[str, str]
) -> None:
    name, action = kind
    assets = 1 if action == "discrete" else assets
    market, env = make_test_market(assets), EnvSpec(action=action)
    agent = make_agent(name, market, env, net=tuple(net), relu=relu, seed=seed)
    check(agent, market, env, spans=[(10, 60), (590, 599)])


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, "ppo"))
def test_a_stock_trained_agent_is_fused_with_the_results_of_lock_step(name: str) -> None:
    market = noise_market()
    agent = train_small(small_spec(name, engine="stock"), market)
    assert (agent.spec.engine, agent.fused) == ("stock", True)
    options: dict[str, Any] = {"spans": [(20, 150), (160, 299)], "lookback": TRAINED_LOOKBACK}
    env = EnvSpec(action=action_of(name))
    fused = play(agent, market, env, **options)
    assert_same(fused, play(stepped(agent), market, env, **options), 1e-6)
    kernel = make_env(market, name, num_envs=1)
    assert agent.fuse(kernel.env_state, kernel.reward_function) is not None


@pytest.fixture
def _unchecked() -> Iterator[None]:
    """Let torch check no distribution, as where an agent was built."""
    checked = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    yield
    torch.distributions.Distribution.set_default_validate_args(checked)


@pytest.mark.usefixtures("_unchecked")
def test_ruin_and_values_that_are_not_finite() -> None:
    close = random_walk(600, volatility=0.02)
    close[100:] *= 3.0
    market, env = make_market(close, open=close, features=5), EnvSpec(max_leverage=3.0, rebalance_band=0.0)
    agent = make_agent("ppo", market, env)
    with torch.no_grad():
        last_layer(agent.policy).bias.fill_(-50.0)
    fused = check(agent, market, env)
    assert fused[0].ruined
    with torch.no_grad():
        last_layer(agent.policy).weight[0, 3] = float("nan")
    for each in (agent, stepped(agent)):
        with pytest.raises(NumericError, match="the action became NaN or infinite at step 0"):
            play(each, market, env)
    features = market.features.copy()
    features[330] = np.inf
    agent = make_agent("ppo", market, env)
    for each in (agent, stepped(agent)):
        with pytest.raises(NumericError, match="the observation became NaN or infinite at step 11"):
            play(each, replace(market, features=features), env, spans=[(320, 599)])


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(
    ("name", "action"),
    mostly_slow([("ppo", "continuous"), ("sac", "continuous"), ("dqn", "discrete")], ("ppo", "continuous")),
)
def test_an_output_that_overflows_acts_alike_fused_and_in_lock_step(name: str, action: str) -> None:
    market, env = make_test_market(), EnvSpec(action=action)
    agent = make_agent(name, market, env)
    with torch.no_grad():
        last_layer(agent.policy).bias[0] = float("inf")
    check(agent, market, env)


def test_a_choice_among_nan_is_refused() -> None:
    market, env = make_test_market(), EnvSpec(action="discrete")
    agent = make_agent("dqn", market, env)
    with torch.no_grad():
        last_layer(agent.policy).bias[1] = float("nan")
    with pytest.raises(NumericError, match="the action became NaN or infinite at step 0"):
        play(agent, market, env)


def test_policies_without_a_kernel_run_step_by_step() -> None:
    market, env = make_test_market(), EnvSpec()
    agent = make_agent("ppo", market, env)
    vector_env = make_vec_env(market).env

    vec_env = make_vec_env(market)
    sampled = PPO("MlpPolicy", vec_env, use_sde=True).policy
    elu = PPO("MlpPolicy", vec_env, policy_kwargs={"activation_fn": nn.ELU}).policy

    def fused(agent: Agent) -> bool:
        return agent.fuse(vector_env.env_state, vector_env.reward_function) is not None

    assert fused(agent)
    assert fused(replace(agent, spec=replace(agent.spec, engine="auto")))
    assert not fused(stepped(agent))
    assert not fused(agent.stochastic(1))
    for policy in (sampled, elu):
        assert not fused(replace(agent, policy=policy))
    other = make_agent("ppo", make_test_market(2), env)
    assert not fused(other)  # of another market: SB3 then raises its own error
