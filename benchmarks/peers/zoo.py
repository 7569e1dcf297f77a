"""Our environment, registered with gymnasium for rl-baselines3-zoo, and a search of the learning rate.

The zoo imports this as one of its `--gym-packages`; WALKFORGE_ZOO names the folder with the market.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import optuna
from rl_zoo3 import hyperparams_opt

from envs.costs import CostSpec
from envs.episodes import RandomEpisodes, SequentialEpisodes
from envs.rewards import RewardSpec
from envs.single import TradingEnv
from envs.spec import EnvSpec

ENV = "Walkforge-v0"


def make(train: bool = True) -> TradingEnv:
    """Make an environment of random episodes of the train span, or of the whole test span."""
    handed: dict[str, Any] = pickle.loads((Path(os.environ["WALKFORGE_ZOO"]) / "zoo.pickle").read_bytes())
    train_first, train_last, test_first, test_last = handed["spans"]
    episodes = (
        RandomEpisodes(train_first, train_last, EnvSpec().episode_bars)
        if train
        else SequentialEpisodes([test_first - 1], [test_last])
    )
    return TradingEnv(
        handed["market"],
        episodes,
        env=EnvSpec(action="continuous"),
        cost=CostSpec(),
        reward=RewardSpec(),
        lookback=handed["lookback"],
    )


def sample(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """Sample what our own study samples."""
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-3, log=True)}


gymnasium.register(ENV, entry_point=f"{__name__}:make")
hyperparams_opt.HYPERPARAMS_SAMPLER["ppo"] = sample
