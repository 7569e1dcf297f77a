"""Evidence that may be read at any time, for returns that arrive one by one."""

import numpy as np

from envs.types import FloatArray
from optimize.errors import require
from optimize.evaluate.luck.returns import one_series


def e_process(*, returns: FloatArray, bet: float) -> FloatArray:
    """Return the running product (T,) of 1 + bet * return (Waudby-Smith & Ramdas 2024, betting).

    Without a positive expected return it ever reaches 1 / level with a probability of at most `level`
    (Ville), however often it is read. `bet` is fixed beforehand, and no return may be so low that a factor
    falls below 0.
    """
    values = one_series(returns, "returns")
    require(bet > 0, "bet", bet, "above 0")
    factors = 1.0 + bet * values
    lowest = float(values.min(initial=0.0))
    require(lowest * bet >= -1, "bet", bet, f"at most 1 / {-lowest:.6g}, one over the largest loss")
    return np.asarray(np.cumprod(factors), dtype=np.float64)
