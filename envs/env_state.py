"""State and parameters of N environments as plain arrays, for kernels that step them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.accounts import MarketView
from envs.costs import CostRates
from envs.observations import ObservationLayout
from envs.orders import OrderRules
from envs.rewards import RewardParams
from envs.types import Account, Fill, FloatArray, IntArray


class EnvState(NamedTuple):
    """Arrays and parameters of the environments; kernels write the arrays in place."""

    bar: IntArray  # (N,) observed by each row
    last: IntArray  # (N,) of its episode
    lowest: float  # action of a choice 0, and lowest number of a continuous action
    bars: MarketView
    rates: CostRates
    rules: OrderRules
    account: Account
    fill: Fill
    features: NDArray[np.float32]  # (T, A * F)
    layout: ObservationLayout
    reward_state: FloatArray  # (N, K)
    reward_params: RewardParams
