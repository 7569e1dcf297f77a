"""One environment: a row of the vector environment, so there is one physics."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.episodes import Episodes
from envs.rewards import RewardSpec
from envs.types import Market
from envs.vector import EnvSpec, TradingVectorEnv

ONE_ROW = np.ones(1, dtype=np.bool_)


class TradingEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """One account in one market, without autoreset; a seeded reset begins listed episodes from the top."""

    def __init__(
        self,
        market: Market,
        episodes: Episodes,
        *,
        env: EnvSpec,
        cost: CostSpec,
        reward: RewardSpec,
        lookback: int,
        seed: int = 0,
    ) -> None:
        self._row = TradingVectorEnv(
            market, episodes, num_envs=1, env=env, cost=cost, reward=reward, lookback=lookback, seed=seed
        )
        self.observation_space = self._row.single_observation_space
        self.action_space = self._row.single_action_space
        self._np_random, self._np_random_seed = seeding.np_random(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start the next episode and return its first observation (D,)."""
        super().reset(seed=seed)
        self._row.np_random = self.np_random
        if seed is not None:
            self._row.episodes.restart()
        return self._row.begin(ONE_ROW)[0], self._info(cost=0.0)

    def step(self, action: Any) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Order an exposure at the close of this bar and return what the next bar's close shows."""
        observation, reward, terminated, truncated = self._row.advance(np.asarray(action)[None])
        fill = self._row.fill
        cost = float(fill.commission.sum() + fill.slippage.sum() + fill.financing[0])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info(cost)

    def _info(self, cost: float) -> dict[str, Any]:
        account = self._row.account
        return {"equity": float(account.equity[0]), "weight": account.weight[0].copy(), "cost": cost}
