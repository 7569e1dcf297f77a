"""Our environment: batched, alone, and one account at a time in other people's vector environments."""

import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.peers.rounds import EPISODE_STEPS, Player, Tape, batch, read_tape, serve, single
from envs.costs import CostSpec
from envs.episodes import RandomEpisodes
from envs.rewards import RewardSpec
from envs.single import TradingEnv
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv
from optimize.agents.sb3.vecenv import SB3VecEnv

FULL_COSTS = CostSpec(
    commission_bps=0.2,
    slippage_bps=0.5,
    spread_from_data=True,
    slippage_per_share=1e-5,
    commission_per_share=1e-6,
    commission_min=0.35,
    commission_max_pct=1.0,
    fixed_fee=0.01,
    cash_rate=0.01,
)


def makers(market: Market, tape: Tape) -> dict[str, Callable[[], Player]]:
    """Return the ways to run our environment, by name."""
    count = tape.num_envs

    def vector(num_envs: int) -> TradingVectorEnv:
        episodes = RandomEpisodes(tape.lookback - 1, market.n_bars - 1, EPISODE_STEPS)
        return TradingVectorEnv(
            market,
            episodes,
            num_envs=num_envs,
            env=EnvSpec(),
            cost=FULL_COSTS,
            reward=RewardSpec(),
            lookback=tape.lookback,
        )

    def alone(seed: int = 0) -> TradingEnv:
        episodes = RandomEpisodes(tape.lookback - 1, market.n_bars - 1, EPISODE_STEPS)
        return TradingEnv(
            market,
            episodes,
            env=EnvSpec(),
            cost=FULL_COSTS,
            reward=RewardSpec(),
            lookback=tape.lookback,
            seed=seed,
        )

    # distinct seeds, for 64 episodes that start and end together would be no market of 64 agents
    many: list[Callable[[], gymnasium.Env[Any, Any]]] = [partial(alone, seed) for seed in range(count)]
    return {
        "vector": lambda: batch(vector(count), tape.targets, count),
        "sb3": lambda: batch(SB3VecEnv(vector(count)), tape.targets, count),
        "dummy": lambda: batch(DummyVecEnv(many), tape.targets, count),
        "sync": lambda: batch(SyncVectorEnv(many, copy=False), tape.targets, count),
        "vector_1": lambda: batch(vector(1), tape.targets[:, :1], 1),
        "single": lambda: single(alone(), tape.targets[:, 0]),
    }


if __name__ == "__main__":
    handed = Path(sys.argv[1])
    serve(makers(pickle.loads((handed / "market.pickle").read_bytes()), read_tape(handed)))
