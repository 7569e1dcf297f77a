"""Observations: a window of features, the account and the state of the reward, gathered on demand."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.rewards import RewardSpec
from envs.types import Account, BoolArray, FloatArray, IntArray, Market


class ObservationLayout(NamedTuple):
    """Offset of each part of an observation after its window of L * A * F features, and the size D."""

    weight: int  # A
    cash: int  # 1 where A > 1, else none: then it is 1 - weight
    tradable: int  # A where A > 1, else none
    last_return: int  # 1
    drawdown: int  # 1
    state: int  # K of the reward
    size: int


def observation_layout(market: Market, lookback: int, reward: RewardSpec) -> ObservationLayout:
    """Return the layout of the observations of a market."""
    n_assets = market.n_assets
    several = n_assets > 1
    weight = lookback * n_assets * len(market.feature_names)
    cash = weight + n_assets
    tradable = cash + several
    last_return = tradable + several * n_assets
    state = last_return + 2
    size = state + len(reward.reward.state)
    return ObservationLayout(weight, cash, tradable, last_return, last_return + 1, state, size)


def flatten_features(market: Market) -> NDArray[np.float32]:
    """Return the features as (T, A * F), so that a window of bars is contiguous in memory."""
    view = np.ascontiguousarray(market.features, dtype=np.float32).reshape(market.n_bars, -1).view()
    view.flags.writeable = False
    return view


def account_layout(layout: ObservationLayout) -> ObservationLayout:
    """Return the layout of an observation without its window of features."""
    return ObservationLayout(*(place - layout.weight for place in layout))


@compiled
def write_feature_window(
    features: NDArray[np.float32], bar: int, window: int, shown: NDArray[np.float32]
) -> None:
    """Write the features of the bars up to bar, oldest first, to the first `window` values of shown."""
    start = (bar + 1) * features.shape[1] - window
    # two views and one index from 0 let the copy vectorise
    seen = features.reshape(-1)[start : start + window]
    for index in range(window):
        shown[index] = seen[index]


@compiled
def write_account(
    row: int,
    bar: int,
    tradable: BoolArray,
    layout: ObservationLayout,
    account: Account,
    state: FloatArray,
    shown: NDArray[np.float32],
) -> None:
    """Write the account and reward state of a row's observation (D,); tradable is (T, A)."""
    n_assets = account.weight.shape[1]
    for asset in range(n_assets):
        shown[layout.weight + asset] = account.weight[row, asset]
    equity = account.equity[row]
    if n_assets > 1:
        shown[layout.cash] = account.cash[row] / equity if equity > 0.0 else 0.0
        for asset in range(n_assets):
            shown[layout.tradable + asset] = tradable[bar, asset]
    shown[layout.last_return] = account.last_return[row]
    shown[layout.drawdown] = equity / account.peak[row] - 1.0
    for index in range(state.shape[1]):
        shown[layout.state + index] = state[row, index]


@compiled
def write_observations(
    features: NDArray[np.float32],
    tradable: BoolArray,
    layout: ObservationLayout,
    bar: IntArray,
    account: Account,
    state: FloatArray,
    wanted: BoolArray,
    observation: NDArray[np.float32],
) -> None:
    """Write the observation at the close of bar (N,) into the wanted rows of observation (N, D).

    In order: features of bars [t - L + 1 .. t], oldest first; weights; with several assets the share of cash
    and tradable (T, A) at bar t; last return; drawdown; state of the reward (N, K).
    """
    for row in range(len(bar)):
        if wanted[row]:
            write_feature_window(features, bar[row], layout.weight, observation[row])
            write_account(row, bar[row], tradable, layout, account, state, observation[row])
