"""Single environment: one row of the vector environment, so that both share one simulation."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from envs.costs import CostSpec
from envs.episodes import Episodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv, refuse_rendering

ONE_ROW = np.ones(1, dtype=np.bool_)


class TradingEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """One account in one market, without autoreset; a seeded reset restarts listed episodes."""

    def __init__(
        self,
        market: Market,
        episodes: Episodes,
        *,
        env: EnvSpec,
        cost: CostSpec,
        reward: RewardSpec,
        lookback: int,
        seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        refuse_rendering(render_mode)
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
        observation = self._row.begin(ONE_ROW)
        self._row.forget_fill()
        return observation[0], self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Order an exposure at the close of this bar and return the observation at the next bar's close."""
        observation, reward, terminated, truncated = self._row.advance(np.asarray(action)[None])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def _info(self) -> dict[str, Any]:
        """Return the account after the step and the cost of the step in units of starting equity.

        `forced` (A,) marks positions closed by the end of the session against the order; `tradable` (A,)
        marks assets that traded at the observed bar.
        """
        account, fill = self._row.account, self._row.fill
        orders, exits = fill.commission + fill.slippage, fill.exit_commission + fill.exit_slippage
        return {
            "equity": float(account.equity[0]),
            "weight": account.weight[0].copy(),
            "cost": float((orders + exits).sum() + fill.financing[0] + fill.interest[0]),
            "forced": fill.forced[0] | (fill.exit_quantity[0] != 0.0),
            "tradable": self._row.tradable[0],
        }
