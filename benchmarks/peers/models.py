"""What the processes that train share: the shapes they are handed, our environment, a model as a player.

Needs nothing beside our environment's own libraries and stable-baselines3, so that it runs in a peer's
virtual environment.
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.rounds import Player
from envs.costs import CostSpec
from envs.episodes import RandomEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.sb3.vecenv import SB3VecEnv


@dataclass(frozen=True)
class Shape:
    """One shape of training; width is the steps of the smallest whole piece of it."""

    key: str
    algorithm: str
    lookback: int
    n_envs: int
    width: int
    layers: list[int]
    episode: int
    hyperparameters: dict[str, Any]


def read_shapes(folder: Path) -> list[Shape]:
    """Return what the parent wrote."""
    return [Shape(**each) for each in json.loads((folder / "shapes.json").read_text())]


def native_env(folder: Path, shape: Shape) -> SB3VecEnv:
    """Make our vector environment on the market that was handed over."""
    market: Market = pickle.loads((folder / f"market_{shape.lookback}.pickle").read_bytes())
    episodes = RandomEpisodes(shape.lookback - 1, market.n_bars - 1, shape.episode)
    return SB3VecEnv(
        TradingVectorEnv(
            market,
            episodes,
            num_envs=shape.n_envs,
            env=EnvSpec(action="continuous"),
            cost=CostSpec(),
            reward=RewardSpec(),
            lookback=shape.lookback,
            seed=0,
        )
    )


def learner(make: Callable[[], Any], width: int) -> Player:
    """Return a player whose call trains the model for so many steps more."""
    model = make()

    def play(calls: int) -> None:
        model.learn(calls * width, reset_num_timesteps=False)

    return Player(play, width)
