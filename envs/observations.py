"""Observations: a window of features and the account, gathered by bar index and never stored."""

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.ledger import AccountRows
from envs.types import BoolArray, IntArray, Market

ACCOUNT_SCALARS = 2  # last return and drawdown, after the A weights


def observation_size(market: Market, lookback: int) -> int:
    """Return D = L * A * F + A + 2."""
    n_features = len(market.feature_names)
    return lookback * market.n_assets * n_features + market.n_assets + ACCOUNT_SCALARS


def flat_features(market: Market) -> NDArray[np.float32]:
    """Return the features as (T, A * F), so that a window of bars is one run of memory."""
    view = np.ascontiguousarray(market.features, dtype=np.float32).reshape(market.n_bars, -1).view()
    view.flags.writeable = False
    return view


@compiled
def gather(
    features: NDArray[np.float32],
    lookback: int,
    bar: IntArray,
    account: AccountRows,
    wanted: BoolArray,
    observation: NDArray[np.float32],
) -> None:
    """Write the observation at the close of bar (N,) into the wanted rows of observation (N, D).

    The features of bars [t - L + 1 .. t], oldest first, then the weights, the last return and the drawdown.
    """
    width = features.shape[1]
    window = lookback * width
    n_assets = account.weight.shape[1]
    flat = features.reshape(-1)
    for row in range(len(bar)):
        if not wanted[row]:
            continue
        start = (bar[row] + 1 - lookback) * width
        observation[row, :window] = flat[start : start + window]
        for asset in range(n_assets):
            observation[row, window + asset] = account.weight[row, asset]
        observation[row, window + n_assets] = account.last_return[row]
        observation[row, window + n_assets + 1] = account.equity[row] / account.peak[row] - 1.0
