"""N environments as plain arrays and numbers, for callers that step them inside a kernel of their own."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.accounts import AccountRows, Bars, FillRows
from envs.costs import Rates
from envs.observations import Layout
from envs.orders import Rules
from envs.rewards import Terms
from envs.types import FloatArray, IntArray


class World(NamedTuple):
    """What the kernels of this package read and write: the very arrays of the environments."""

    bar: IntArray  # (N,) observed by each row
    last: IntArray  # (N,) of its episode
    lowest: float  # action of a choice 0, and lowest number of a continuous action
    bars: Bars
    rates: Rates
    rules: Rules
    account: AccountRows
    fill: FillRows
    features: NDArray[np.float32]  # (T, A * F)
    layout: Layout
    state: FloatArray  # (N, K) of the reward
    terms: Terms
