"""Environments over small markets, and a function that runs them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.cost_kernels import NS_PER_YEAR
from envs.costs import CostSpec
from envs.episodes import Episodes, SequentialEpisodes
from envs.rewards import RewardSpec
from envs.spec import EnvSpec
from envs.types import Market
from envs.vector import TradingVectorEnv

EAGER = EnvSpec(rebalance_band=0.0)


class Play(NamedTuple):
    """All values of one account, step by step (K steps)."""

    observation: NDArray[Any]  # (K + 1, D), the last one before autoreset
    reward: NDArray[Any]  # (K,)
    cash: NDArray[Any]  # (K,)
    equity: NDArray[Any]  # (K,)
    quantity: NDArray[Any]  # (K, A)
    weight: NDArray[Any]  # (K, A)
    traded: NDArray[Any]  # (K, A)
    price: NDArray[Any]  # (K, A)
    commission: NDArray[Any]  # (K, A)
    slippage: NDArray[Any]  # (K, A)
    financing: NDArray[Any]  # (K,)
    turnover: NDArray[Any]  # (K,)
    forced: NDArray[Any]  # (K, A)
    exit_quantity: NDArray[Any]  # (K, A)
    exit_price: NDArray[Any]  # (K, A)
    exit_commission: NDArray[Any]  # (K, A)
    exit_slippage: NDArray[Any]  # (K, A)
    terminated: NDArray[Any]  # (K,)
    truncated: NDArray[Any]  # (K,)


def make_env(
    market: Market,
    *,
    first: int = 0,
    last: int | None = None,
    episodes: Episodes | None = None,
    num_envs: int = 1,
    env: EnvSpec = EAGER,
    cost: CostSpec | None = None,
    reward: RewardSpec | None = None,
    lookback: int = 1,
) -> TradingVectorEnv:
    """Build a vector environment that plays the whole market, free of costs by default."""
    return TradingVectorEnv(
        market,
        episodes or SequentialEpisodes([first], [market.n_bars - 1 if last is None else last]),
        num_envs=num_envs,
        env=env,
        cost=cost or CostSpec.free(),
        reward=reward or RewardSpec(),
        lookback=lookback,
        seed=0,
    )


def play(env: TradingVectorEnv, actions: ArrayLike) -> Play:
    """Play actions (K, ...) with one account and stop where its episode ends."""
    observation, _ = env.reset(seed=0)
    observations, steps = [observation[0]], []
    for action in np.asarray(actions):
        observation, reward, terminated, truncated = env.advance(np.asarray(action)[None])
        account, fill = env.account, env.fill
        arrays = (
            *(reward, account.cash, account.equity, account.quantity, account.weight),
            *(fill.quantity, fill.price, fill.commission, fill.slippage, fill.financing, fill.turnover),
            *(fill.forced, fill.exit_quantity, fill.exit_price, fill.exit_commission, fill.exit_slippage),
            *(terminated, truncated),
        )
        observations.append(observation[0])
        steps.append([np.array(array[0]) for array in arrays])
        if terminated[0] or truncated[0]:
            break
    return Play(np.array(observations), *(np.array(column) for column in zip(*steps, strict=True)))


def with_exits(market: Market, at_open: Sequence[int], at_close: Sequence[int]) -> Market:
    """Return the market with forced exits at the opens and the closes of the bars listed."""
    exits = np.zeros((2, market.n_bars), dtype=bool)
    exits[0, list(at_open)] = True
    exits[1, list(at_close)] = True
    return replace(market, exit_at_open=exits[0], exit_at_close=exits[1])


def with_gaps(market: Market, gap_years: float, bar_years: float) -> Market:
    """Return the market with bars of one length and a pause of another before each."""
    gap, bar = round(gap_years * NS_PER_YEAR), round(bar_years * NS_PER_YEAR)
    timestamp = market.timestamp[0] + np.arange(market.n_bars, dtype=np.int64) * (gap + bar)
    return replace(market, timestamp=timestamp, bar_end=timestamp + bar)
