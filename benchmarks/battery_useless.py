"""Extension of the battery: 40 columns that know nothing of any price, drawn from the time of the bar alone.

The first 20 are new in every bar; the others are means over the last 24 bars, so that they move slowly. They
are in the group of the last return, so that a choice among groups cannot leave them out.
"""

import numpy as np

from envs.types import FloatArray, IntArray
from optimize.data.features.registry import AssetBars, feature

HOUR_NS = 3_600_000_000_000
COLUMNS, SLOW = 20, 24  # of each sort, and the bars of a mean
STEP, FIRST, SECOND = (
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@feature(
    "useless", *(f"useless_{number}" for number in range(2 * COLUMNS)), warmup=0, clock=True, group="price"
)
def useless(bars: AssetBars) -> list[FloatArray]:
    """Return 40 columns of noise."""
    hour = bars.bar_end // HOUR_NS
    quick = [drawn(hour, number) for number in range(COLUMNS)]
    slow = [
        np.mean([drawn(hour - past, COLUMNS + number) for past in range(SLOW)], axis=0)
        for number in range(COLUMNS)
    ]
    return quick + slow


def drawn(hour: IntArray, number: int) -> FloatArray:
    """Return a uniform draw (T,) for every hour, by the generator splitmix64."""
    with np.errstate(over="ignore"):
        state = (hour.astype(np.uint64) * np.uint64(1000) + np.uint64(number)) * STEP
        state = (state ^ (state >> np.uint64(30))) * FIRST
        state = (state ^ (state >> np.uint64(27))) * SECOND
    return np.asarray((state ^ (state >> np.uint64(31))) / 2.0**64 - 0.5, dtype=np.float64)
