"""Features of volume; where a window has no volume, each takes a neutral finite value."""

import numpy as np
import talib

from envs.types import FloatArray
from optimize.data.features import indicators
from optimize.data.features.indicators import PERIOD, WINDOW
from optimize.data.features.registry import AssetBars, feature
from optimize.data.features.rolling import ratio, rolling

LONG_WINDOW = 100  # bars of the long mean, compared with the mean of the last WINDOW bars


@feature("mfi", group="volume", warmup=PERIOD, needs=("volume",))
def mfi(bars: AssetBars) -> list[FloatArray]:
    """Return the money flow index (MFI), -1..1."""
    return [indicators.money_flow_index(bars.high, bars.low, bars.close, bars.volume) / 50.0 - 1.0]


@feature("cmf", group="volume", warmup=WINDOW - 1, needs=("volume",))
def cmf(bars: AssetBars) -> list[FloatArray]:
    """Return the Chaikin money flow, -1..1."""
    return [indicators.chaikin_money_flow(bars.high, bars.low, bars.close, bars.volume)]


@feature("obv", group="volume", warmup=WINDOW, needs=("volume",))
def obv(bars: AssetBars) -> list[FloatArray]:
    """Return the 20-bar change of on-balance volume divided by the volume of these bars, -1..1.

    The level itself is not used: it depends on the first bar of the data.
    """
    direction = np.sign(np.diff(bars.close, prepend=np.nan))
    flow = rolling(direction * bars.volume, WINDOW, np.sum)
    total = rolling(bars.volume, WINDOW, np.sum)
    return [ratio(flow, total, total == 0)]


@feature(
    "volume",
    "volume_mean",
    "volume_ratio",
    "volume_trend",
    group="volume",
    warmup=LONG_WINDOW - 1,
    needs=("volume",),
)
def volume(bars: AssetBars) -> list[FloatArray]:
    """Return volume relative to its mean: 20 bars against 100, this bar against 20, and the 20-bar trend.

    The first two are (a - b) / (a + b), -1..1; the trend is the rise of the fitted line over the window
    divided by the window's mean.
    """
    recent, long = rolling(bars.volume, WINDOW, np.mean), rolling(bars.volume, LONG_WINDOW, np.mean)
    rise = WINDOW * np.asarray(talib.LINEARREG_SLOPE(bars.volume, WINDOW))
    silent = recent == 0
    return [
        ratio(recent - long, recent + long, long == 0),
        ratio(bars.volume - recent, bars.volume + recent, silent),
        ratio(rise, recent, silent),
    ]
