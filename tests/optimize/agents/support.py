"""Small agents on small markets."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from envs.costs import CostSpec
from envs.episodes import RandomEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.agent import Agent
from optimize.agents.registry import action_of
from optimize.agents.sb3.callbacks import ProgressReport
from optimize.agents.sb3.train import train
from optimize.agents.spec import AgentSpec
from optimize.agents.train_spec import TrainSpec
from tests.markets import make_market, random_walk

CONF = Path(__file__).resolve().parents[3] / "conf"
LOOKBACK = 4
SMALL: dict[str, dict[str, Any]] = {
    "a2c": {"n_steps": 8},
    "ppo": {"n_steps": 32, "batch_size": 64, "n_epochs": 2},
    "sac": {"learning_starts": 50, "batch_size": 32, "train_freq": 4},
    "td3": {"learning_starts": 50, "batch_size": 32, "train_freq": 4},
    "dqn": {"learning_starts": 50, "batch_size": 32, "target_update_interval": 50, "learning_rate": 0.001},
}


def small_spec(name: str, **changes: Any) -> AgentSpec:
    """Return an agent that trains in a moment; changes are fields or hyperparameters."""
    own = {field.name for field in fields(AgentSpec)}
    base: dict[str, Any] = {
        "name": name,
        "total_timesteps": 256,
        "n_envs": 4 if name in ("ppo", "a2c") else 1,
    }
    hyperparameters = SMALL[name] | {key: value for key, value in changes.items() if key not in own}
    base |= {"net": "tiny", "hyperparameters": hyperparameters}
    return AgentSpec(**(base | {key: value for key, value in changes.items() if key in own}))


def shipped_spec(name: str) -> AgentSpec:
    """Return the agent of conf/agent/NAME.yaml."""
    node = load_yaml("agent", name)
    own = {field.name for field in fields(AgentSpec)}
    plain = {key: value for key, value in node.items() if key in own}
    return AgentSpec(**plain, hyperparameters={key: node[key] for key in node if key not in own})


def load_yaml(group: str, name: str) -> dict[str, Any]:
    """Return the keys of conf/GROUP/NAME.yaml and of the files that it starts from."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(node, dict)
    keys: dict[str, Any] = {}
    for base in node.pop("defaults", []):
        keys |= {} if base == "_self_" else load_yaml(group, base)
    return keys | {str(key): value for key, value in node.items()}


def noise_market(n_bars: int = 300) -> Market:
    return make_market(random_walk(n_bars), features=2)


def make_env(market: Market, name: str, *, num_envs: int, bars: int = 40) -> TradingVectorEnv:
    return TradingVectorEnv(
        market,
        RandomEpisodes(LOOKBACK - 1, market.n_bars - 1, bars),
        num_envs=num_envs,
        env=EnvSpec(action=action_of(name)),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=LOOKBACK,
        seed=0,
    )


def train_small(
    spec: AgentSpec,
    market: Market | None = None,
    *,
    seed: int = 1,
    training: TrainSpec | None = None,
    report: ProgressReport | None = None,
) -> Agent:
    market = noise_market() if market is None else market
    return train(
        spec,
        market,
        (LOOKBACK - 1, market.n_bars - 1),
        env=EnvSpec(episode_bars=40),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=LOOKBACK,
        seed=seed,
        training=training,
        report=report,
    )


def probe_observations(agent: Agent, rows: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return random observations (rows, D) of the size this agent takes."""
    assert agent.policy.observation_space.shape is not None
    size = agent.policy.observation_space.shape[0]
    return np.random.default_rng(5).normal(size=(rows, size)).astype(np.float32)


def same_weights(one: Agent, other: Agent) -> bool:
    """Return whether every tensor of both policies is bit-identical."""
    left, right = one.policy.state_dict(), other.policy.state_dict()
    return left.keys() == right.keys() and all(bool((left[key] == right[key]).all()) for key in left)
