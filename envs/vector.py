"""N environments over one market, stepped in one call."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.accounts import account_rows, fill_rows, no_fill, open_accounts, read_bars, start_accounts
from envs.actions import ActionSpace, action_space, allowed_actions, find_refused
from envs.costs import CostSpec, check_spread
from envs.episodes import Episodes
from envs.errors import BadInputError, WalkforgeError, require
from envs.ledger import broken_equity, step_accounts
from envs.observations import flat_features, gather, layout_of
from envs.orders import Rules
from envs.rewards import RUIN_FLOOR, RewardFunction, RewardSpec
from envs.types import BoolArray, FloatArray, IntArray, Market
from envs.world import World

Observation = NDArray[np.float32]
ACTIONS = ("auto", "continuous", "discrete")
FILLS = ("open", "close")
EPISODES = ("bars", "session")
_WRITEABLE = "features_writeable"  # key of a pickle alone


@dataclass(frozen=True)
class EnvSpec:
    """How an agent's actions become orders, and how long it trains in one go."""

    action: str = "auto"  # auto: what the agent needs; the environment itself then takes continuous actions
    fill: str = "open"  # of the next bar; "close" fills at the very close that was observed
    max_leverage: float = 1.0
    rebalance_band: float = 0.01  # of equity
    long_only: bool = False  # exposures from 0 up; a discrete agent then chooses between flat and long
    max_weights: list[float] = field(default_factory=list)  # |exposure|: of each asset, one for all, or none
    episode: str = "bars"  # a training episode is episode_bars steps, or one whole "session" at random
    episode_bars: int = 512  # steps of a random training episode, cut to the train span when longer

    def __post_init__(self) -> None:
        require(self.action in ACTIONS, "env.action", self.action, f"one of {', '.join(ACTIONS)}")
        require(self.fill in FILLS, "env.fill", self.fill, f"one of {', '.join(FILLS)}")
        leverage, band = self.max_leverage, self.rebalance_band
        require(0 < leverage < math.inf, "env.max_leverage", leverage, "a finite number above 0")
        require(0 <= band < math.inf, "env.rebalance_band", band, "a finite number >= 0, such as 0.01")
        limits = list(self.max_weights)
        allowed = "finite numbers above 0, one for all assets or one for each"
        require(all(0 < limit < math.inf for limit in limits), "env.max_weights", limits, allowed)
        require(self.episode in EPISODES, "env.episode", self.episode, f"one of {', '.join(EPISODES)}")
        require(self.episode_bars >= 1, "env.episode_bars", self.episode_bars, ">= 1")

    def action_space(self, n_assets: int) -> ActionSpace:
        """Return the actions of one environment."""
        return action_space(self.action == "discrete", self.long_only, n_assets)

    def weight_limits(self, n_assets: int) -> FloatArray:
        """Return the largest |exposure| of each asset (A,), infinite where there is no limit."""
        limits = list(self.max_weights) or [math.inf]
        allowed = f"empty, one number, or {n_assets} in the order of data.symbols"
        require(len(limits) in (1, n_assets), "env.max_weights", limits, allowed)
        return np.array(np.broadcast_to(limits, n_assets), dtype=np.float64)

    def check_assets(self, n_assets: int) -> None:
        """Refuse so many assets where an action is one choice, or where the limits are of others."""
        if self.action == "discrete" and n_assets > 1:
            raise BadInputError(
                f"env.action='discrete' is not allowed with {n_assets} assets: set env.action=continuous and "
                "an agent that can, such as agent=ppo or agent=sac, or name one symbol in data.symbols"
            )
        self.weight_limits(n_assets)

    def rules(self, n_assets: int) -> Rules:
        """Return the rules that the ledger reads."""
        return Rules(
            at_open=self.fill == "open",
            discrete=self.action == "discrete",
            max_leverage=float(self.max_leverage),
            rebalance_band=float(self.rebalance_band),
            long_only=self.long_only,
            max_weight=self.weight_limits(n_assets),
        )


class TradingVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """N accounts in one market; a finished row starts its next episode in the same step.

    `account` and `fill` are written in place. `last_bar`, `last_equity` and `last_weight` hold the state at
    the end of the step just made, before any autoreset. Returned arrays and those three are new each step.
    `layout` says where each part of an observation lies.
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
    ) -> None:
        refuse_rendering(render_mode)
        _check(market, episodes, num_envs, env, lookback)
        check_spread(cost, market)
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.num_envs = num_envs
        n_assets = market.n_assets
        self.layout = layout_of(market, lookback, reward)
        size = self.layout.size
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = env.action_space(n_assets)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.account = open_accounts(num_envs, n_assets)
        self.fill = no_fill(num_envs, n_assets)
        self.bar: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._account = account_rows(self.account)
        self._fill = fill_rows(self.fill)
        self._bars = read_bars(market)
        self._features = flat_features(market)
        self._rates = cost.rates()
        self._rules = env.rules(n_assets)
        self._lowest = 0.0 if env.long_only else -1.0
        self._reward = reward.reward.step
        self._state_start, self._terms = reward.fit(market.hold_moments)
        self._state = np.tile(self._state_start, (num_envs, 1))
        self._scored, self._active = 0, 0
        self.episodes = copy.copy(episodes)  # each environment keeps its own place in the list
        self._last: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._all: BoolArray = np.ones(num_envs, dtype=np.bool_)
        self._shape = (num_envs, n_assets)
        self._observation_shape = (num_envs, size)
        self._np_random, self._np_random_seed = seeding.np_random(seed)  # None: drawn from the machine
        self._remember()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start every row afresh, listed episodes from the top, and return observations (N, D).

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
        """Start the rows marked and return what all rows observe; the next listed episodes are theirs."""
        allowed = f"a numpy array of {self.num_envs} booleans with at least one true"
        fine = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)
        require(fine and bool(np.any(mask)), "options['reset_mask']", mask, allowed)
        if (self._last[~mask] == 0).any():
            raise BadInputError("options['reset_mask'] leaves rows out that never began: call reset() first")
        observation = self._empty_observation()
        self._observe(~mask, observation)
        self.begin(mask, observation)
        for array in self._fill:
            array[mask] = 0
        self._remember()
        return observation

    def begin(self, rows: BoolArray, observation: Observation | None = None) -> Observation:
        """Start the next episode in the rows (N,) marked and write their observations (N, D), no others."""
        if observation is None:
            observation = self._empty_observation()
        chosen = np.flatnonzero(rows)
        self.bar[chosen], self._last[chosen] = self.episodes.draw(len(chosen), self.np_random)
        start_accounts(rows, self._account)
        self._state[chosen] = self._state_start
        self._observe(rows, observation)
        return observation

    def advance(self, actions: NDArray[Any]) -> tuple[Observation, FloatArray, BoolArray, BoolArray]:
        """Step every row without autoreset; return observation (N, D), reward, terminated, truncated (N,).

        Raises WalkforgeError, with nothing changed, where an episode is over or an action is not a number
        or not a choice; and where an equity is not finite, after which only a reset helps.
        """
        target = np.array(actions, dtype=np.float64)
        if target.shape != self._shape:
            target = self._in_rows(target)
        if self._rules.discrete:
            target += self._lowest
        refused = find_refused(self.bar, self._last, target, self._rules.discrete, self._lowest)
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
            self._account,
            self._fill,
            terminated,
            truncated,
        )
        if broken >= 0:
            raise WalkforgeError(broken_equity(broken, int(self.bar[broken])))
        self._last[terminated] = self.bar[terminated]
        account = self._account
        self._active += self._reward(previous, account.equity, account.peak, self._state, self._terms, reward)
        self._scored += self.num_envs
        self._remember()
        observation = self._empty_observation()
        self._observe(self._all, observation)
        return observation, reward, terminated, truncated

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Step every row; a finished one restarts at once and its last observation goes to the infos.

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
        """Return actions (N,) of a single asset as (N, 1); refuse those of any other shape."""
        if self._shape[1] != 1 or actions.shape != self._shape[:1]:
            raise WalkforgeError(
                f"actions of shape {actions.shape} are not allowed: {self._shape[0]} environments with "
                f"{self._shape[1]} assets take {self._shape}"
            )
        return actions.reshape(self._shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TradingVectorEnv":
        """Return a copy with accounts and a generator of its own; the market, never written, is shared."""
        for array in (*self._bars, self._features):
            memo[id(array)] = array
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, and which arrays of the market were read-only."""
        return self.__dict__ | {_WRITEABLE: self._features.flags.writeable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what a pickle drops: kernels are compiled for a market that is read-only."""
        writeable = state.pop(_WRITEABLE)
        self.__dict__.update(state)
        for array in self._bars:
            array.flags.writeable = False
        self._features.flags.writeable = writeable

    @property
    def world(self) -> World:
        """Return the very arrays of these rows, for a loop that is compiled as a whole."""
        rows = (self._account, self._fill, self._features, self.layout, self._state, self._terms)
        return World(self.bar, self._last, self._lowest, self._bars, self._rates, self._rules, *rows)

    @property
    def reward_function(self) -> RewardFunction:
        """Return the kernel that such a loop calls after each step of all rows."""
        return self._reward

    def count_scored(self, scored: int, active: int) -> None:
        """Add the steps of such a loop to those of `reward_active_share`."""
        self._scored += scored
        self._active += active

    @property
    def tradable(self) -> BoolArray:
        """Return which assets trade at the bar that each row observes, (N, A)."""
        return self._bars.tradable[self.bar]

    @property
    def reward_active_share(self) -> float:
        """Return the share of all steps so far on which neither floor nor clip bound the reward, NaN before.

        A reward that is no differential one has neither, so its share is 1.
        """
        return self._active / self._scored if self._scored else math.nan

    def forget_fill(self) -> None:
        """Let the fill say that nothing was traded, as before the first step."""
        for array in self._fill:
            array[...] = 0

    def _observe(self, rows: BoolArray, observation: Observation) -> None:
        gather(
            self._features,
            self._bars.tradable,
            self.layout,
            self.bar,
            self._account,
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
        allowed = allowed_actions(self.single_action_space)
        raise WalkforgeError(f"action {came} of env row {row} is not allowed: it must be {allowed}")


def refuse_rendering(render_mode: str | None) -> None:
    """Refuse a render mode: there is nothing to draw."""
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
