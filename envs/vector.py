"""N environments over one market, stepped in one call."""

import copy
import math
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.accounts import MarketView, empty_fill, open_accounts, reset_accounts, view_market
from envs.actions import describe_actions, find_bad_action
from envs.cost_kernels import check_spread
from envs.costs import CostSpec
from envs.env_state import EnvState
from envs.episodes import Episodes
from envs.errors import BadInputError, WalkforgeError, require
from envs.ledger import bad_equity_message, step_accounts
from envs.observations import flatten_features, observation_layout, write_observations
from envs.registration import register_environments
from envs.rewards import RUIN_FLOOR, RewardFunction, RewardSpec
from envs.spec import EnvSpec
from envs.stress import NO_STRESS, Stress, scale_costs
from envs.types import BoolArray, FloatArray, IntArray, Market

Observation = NDArray[np.float32]
_WRITEABLE = "features_writeable"  # key in a pickle only


class TradingVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """N accounts in one market; a finished row starts its next episode in the same step.

    `account` and `fill` are written in place. `last_bar`, `last_equity` and `last_weight` hold the state at
    the end of the step just made, before any autoreset. Returned arrays and those three are new each step.
    `layout` holds the offset of each part of an observation.
    """

    def __init__(
        self,
        market: Market,
        episodes: Episodes,
        *,
        num_envs: int,
        env: EnvSpec,
        cost: CostSpec,
        reward: RewardSpec,
        lookback: int,
        seed: int | None = None,
        render_mode: str | None = None,
        stress: Stress = NO_STRESS,
    ) -> None:
        refuse_rendering(render_mode)
        _check(market, episodes, num_envs, env, lookback)
        check_spread(cost, market)
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.num_envs = num_envs
        n_assets = market.n_assets
        self.layout = observation_layout(market, lookback, reward)
        size = self.layout.size
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = env.action_space(n_assets)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.account = open_accounts(num_envs, n_assets)
        self.fill = empty_fill(num_envs, n_assets)
        self.bar: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._bars = view_market(market, stress, at_open=env.fill == "open")
        self._features = flatten_features(market)
        self._rates = cost.rates() if stress is NO_STRESS else scale_costs(cost.rates(), stress.cost_factor)
        self._rules = env.rules(n_assets)._replace(delay=stress.delay)
        self._lowest = 0.0 if env.long_only else -1.0
        self._reward = reward.reward.step
        self._state_start, self._terms = reward.fit(market.hold_moments)
        self._state = np.tile(self._state_start, (num_envs, 1))
        self._scored, self._active = 0, 0
        self.episodes = copy.copy(episodes)  # each environment has its own position in the list
        self._last: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._all: BoolArray = np.ones(num_envs, dtype=np.bool_)
        self._shape = (num_envs, n_assets)
        self._observation_shape = (num_envs, size)
        self._np_random, self._np_random_seed = seeding.np_random(seed)  # None: from the operating system
        self._remember()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every row, listed ones from the first, and return observations (N, D).

        options={"reset_mask": mask}, a boolean (N,), starts the rows marked and leaves the others alone.
        All rows draw from one generator, so that `seed` is one number.
        """
        if isinstance(seed, list | tuple):
            raise BadInputError(
                f"seed={seed!r} is not allowed: all rows draw from one generator, give one number"
            )
        super().reset(seed=seed)
        if options is not None and "reset_mask" in options:
            return self._reset_rows(options["reset_mask"]), {}
        self.episodes.restart()
        observation = self.begin(self._all)
        self.forget_fill()
        self._remember()
        return observation, {}

    def _reset_rows(self, mask: Any) -> Observation:
        """Start the next episodes in the marked rows and return the observations of all rows."""
        allowed = f"a numpy array of {self.num_envs} booleans with at least one true"
        fine = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)
        require(fine and bool(np.any(mask)), "options['reset_mask']", mask, allowed)
        if (self._last[~mask] == 0).any():
            raise BadInputError("options['reset_mask'] leaves rows out that never began: call reset() first")
        observation = self._empty_observation()
        self._observe(~mask, observation)
        self.begin(mask, observation)
        for array in self.fill:
            array[mask] = 0
        self._remember()
        return observation

    def begin(self, rows: BoolArray, observation: Observation | None = None) -> Observation:
        """Start the next episode in the marked rows (N,) and write only their observations (N, D)."""
        if observation is None:
            observation = self._empty_observation()
        chosen = np.flatnonzero(rows)
        self.bar[chosen], self._last[chosen] = self.episodes.draw(len(chosen), self.np_random)
        reset_accounts(rows, self.account)
        self._state[chosen] = self._state_start
        self._observe(rows, observation)
        return observation

    def advance(self, actions: NDArray[Any]) -> tuple[Observation, FloatArray, BoolArray, BoolArray]:
        """Step every row without autoreset; return observation (N, D), reward, terminated, truncated (N,).

        Raise WalkforgeError, with nothing changed, if an episode is over or an action is not allowed; and if
        an equity is not finite, after which the environment must be reset.
        """
        target = np.array(actions, dtype=np.float64)
        if target.shape != self._shape:
            target = self._in_rows(target)
        if self._rules.discrete:
            target += self._lowest
        refused = find_bad_action(self.bar, self._last, target, self._rules.discrete, self._lowest)
        if refused >= 0:
            self._refuse(refused, actions)
        previous = self.account.equity.copy()
        reward = np.empty(self.num_envs)
        terminated: BoolArray = np.empty(self.num_envs, dtype=np.bool_)
        truncated: BoolArray = np.empty(self.num_envs, dtype=np.bool_)
        broken = step_accounts(
            self.bar,
            self._last,
            target,
            self._bars,
            self._rates,
            self._rules,
            self.account,
            self.fill,
            terminated,
            truncated,
        )
        if broken >= 0:
            raise WalkforgeError(bad_equity_message(broken, int(self.bar[broken])))
        self._last[terminated] = self.bar[terminated]
        account = self.account
        self._active += self._reward(previous, account.equity, account.peak, self._state, self._terms, reward)
        self._scored += self.num_envs
        self._remember()
        observation = self._empty_observation()
        self._observe(self._all, observation)
        return observation, reward, terminated, truncated

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Step every row; a finished row restarts at once and its last observation is put in the infos.

        When rows finish, infos has `final_obs` (N, D) and `episode_return` (N,), the log of the final equity,
        each valid where `_final_obs` and `_episode_return` (N,) are true; otherwise infos is empty.
        """
        observation, reward, terminated, truncated = self.advance(actions)
        done = terminated | truncated
        if not done.any():
            return observation, reward, terminated, truncated, {}
        infos = {
            "final_obs": observation,
            "_final_obs": done,
            "episode_return": np.where(done, np.log(np.maximum(self.last_equity, RUIN_FLOOR)), 0.0),
            "_episode_return": done,
        }
        return self.begin(done, observation.copy()), reward, terminated, truncated, infos

    def _in_rows(self, actions: FloatArray) -> FloatArray:
        """Return actions (N,) of a single asset as (N, 1); refuse any other shape."""
        if self._shape[1] != 1 or actions.shape != self._shape[:1]:
            raise WalkforgeError(
                f"actions of shape {actions.shape} are not allowed: {self._shape[0]} environments with "
                f"{self._shape[1]} assets take {self._shape}"
            )
        return actions.reshape(self._shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TradingVectorEnv":
        """Return a copy with its own accounts and generator; the read-only market is shared."""
        for array in (*_arrays(self._bars), self._features):
            memo[id(array)] = array
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes and the flag of a writeable feature array."""
        return self.__dict__ | {_WRITEABLE: self._features.flags.writeable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the read-only flags that a pickle drops: kernels are compiled for read-only arrays."""
        writeable = state.pop(_WRITEABLE)
        self.__dict__.update(state)
        for array in _arrays(self._bars):
            array.flags.writeable = False
        self._features.flags.writeable = writeable

    @property
    def env_state(self) -> EnvState:
        """Return the arrays of these rows, which a compiled loop writes in place."""
        rows = (self.account, self.fill, self._features, self.layout, self._state, self._terms)
        return EnvState(self.bar, self._last, self._lowest, self._bars, self._rates, self._rules, *rows)

    @property
    def reward_function(self) -> RewardFunction:
        """Return the reward kernel, which a compiled loop calls after each step of all rows."""
        return self._reward

    def count_scored(self, scored: int, active: int) -> None:
        """Add the steps of a compiled loop to the counts of `reward_active_share`."""
        self._scored += scored
        self._active += active

    @property
    def tradable(self) -> BoolArray:
        """Return which assets trade at the bar that each row observes, (N, A)."""
        return self._bars.tradable[self.bar]

    @property
    def reward_active_share(self) -> float:
        """Return the share of steps on which neither floor nor clip limited the reward, NaN before the first.

        Rewards that are not differential have neither, so their share is 1.
        """
        return self._active / self._scored if self._scored else math.nan

    def forget_fill(self) -> None:
        """Zero the fill, as before the first step."""
        for array in self.fill:
            array[...] = 0

    def _observe(self, rows: BoolArray, observation: Observation) -> None:
        write_observations(
            self._features,
            self._bars.tradable,
            self.layout,
            self.bar,
            self.account,
            self._state,
            rows,
            observation,
        )

    def _empty_observation(self) -> Observation:
        return np.empty(self._observation_shape, dtype=np.float32)

    def _remember(self) -> None:
        self.last_bar = self.bar.copy()
        self.last_equity = self.account.equity.copy()
        self.last_weight = self.account.weight.copy()

    def _refuse(self, row: int, actions: NDArray[Any]) -> None:
        if self.bar[row] >= self._last[row]:
            raise WalkforgeError(f"the episode of env row {row} is over or has not begun: call reset() first")
        came = np.asarray(actions).reshape(self._shape)[row].tolist()
        allowed = describe_actions(self.single_action_space)
        raise WalkforgeError(f"action {came} of env row {row} is not allowed: it must be {allowed}")


def _arrays(bars: MarketView) -> list[NDArray[Any]]:
    return [*bars.arrays, *bars.frictions]


def refuse_rendering(render_mode: str | None) -> None:
    """Refuse every render mode: the environment draws nothing."""
    require(render_mode is None, "render_mode", render_mode, "None: a market is not drawn")


def _check(market: Market, episodes: Episodes, num_envs: int, env: EnvSpec, lookback: int) -> None:
    require(num_envs >= 1, "num_envs", num_envs, ">= 1")
    require(lookback >= 1, "lookback", lookback, ">= 1")
    env.check_assets(market.n_assets)
    first, last = episodes.bounds()
    if first < lookback - 1 or last > market.n_bars - 1:
        raise BadInputError(
            f"episodes over bars {first}..{last} are not allowed: with a lookback of {lookback} and "
            f"{market.n_bars} bars they must lie within {lookback - 1}..{market.n_bars - 1}"
        )


register_environments()
