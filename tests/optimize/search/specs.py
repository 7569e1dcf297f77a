"""A small configuration with the shape of the real one."""

from dataclasses import dataclass, field
from typing import Any

from envs.errors import require


@dataclass(frozen=True)
class Data:
    timeframe: str = "1h"
    path: str = ""


@dataclass(frozen=True)
class Feature:
    lookback: int = 8

    def __post_init__(self) -> None:
        require(self.lookback >= 1, "feature.lookback", self.lookback, ">= 1")


@dataclass(frozen=True)
class Env:
    fill: str = "open"
    max_leverage: float = 1.0


@dataclass(frozen=True)
class Agent:
    name: str = "ppo"
    net: str | None = None
    device: str = "cpu"
    total_timesteps: int = 20_000
    n_envs: int = 8
    hyperparameters: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 3e-4, "n_steps": 256})


@dataclass(frozen=True)
class Cost:
    commission_bps: float = 1.0


@dataclass(frozen=True)
class Study:
    name: str = "a"
    seed: int = 0
    n_trials: int = 10
    output_dir: str = "studies"
    data: Data = field(default_factory=Data)
    feature: Feature = field(default_factory=Feature)
    env: Env = field(default_factory=Env)
    cost: Cost = field(default_factory=Cost)
    agent: Agent = field(default_factory=Agent)
