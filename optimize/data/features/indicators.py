"""Indicators by their published definitions, in their own units; computed by TA-Lib where it has them.

All arrays are (T,), NaN before the first full window.
"""

import numpy as np
import talib

from envs.types import FloatArray
from optimize.data.features.rolling import forget_bars, log_returns, ratio, rolling, weighted

PERIOD = 14  # Wilder (1978): RSI, ATR, +DI, -DI and ADX; Lane: %K; Williams: %R; Quong & Soudack (1989): MFI
SLOWING = 3  # Lane: slow %K and %D
WINDOW = 20  # Bollinger (1992); Lambert (1980): CCI; Chaikin: money flow
BAND_WIDTH = 2.0  # standard deviations
FAST, SLOW, SIGNAL = 12, 26, 9  # Appel (1979): MACD
AROON_PERIOD = 25  # Chande (1995)
DEVIATION_PERIOD = 10  # Dorsey (1993): relative volatility index
VIGOR_PERIOD = 10  # Ehlers (2002): relative vigor index
VIGOR_WEIGHTS = np.array([1.0, 2.0, 2.0, 1.0])

WILDER_BARS = PERIOD + forget_bars(1 - 1 / PERIOD)
EMA_BARS = SLOW + SIGNAL + forget_bars(1 - 2 / (SLOW + 1))
VIGOR_BARS = len(VIGOR_WEIGHTS) - 1 + VIGOR_PERIOD - 1

TwoLines = tuple[FloatArray, FloatArray]
ThreeLines = tuple[FloatArray, FloatArray, FloatArray]


def relative_strength(close: FloatArray) -> FloatArray:
    """Return RSI, 0..100."""
    return np.asarray(talib.RSI(close, PERIOD))


def moving_averages_gap(close: FloatArray) -> TwoLines:
    """Return MACD and its signal line, in units of the price."""
    line, signal, _ = talib.MACD(close, FAST, SLOW, SIGNAL)
    return line, signal


def bollinger_bands(close: FloatArray) -> TwoLines:
    """Return the middle and the half width of the Bollinger bands, in units of the price."""
    return rolling(close, WINDOW, np.mean), BAND_WIDTH * rolling(close, WINDOW, np.std)


def average_true_range(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Return ATR, in units of the price."""
    return np.asarray(talib.ATR(high, low, close, PERIOD))


def average_directional_index(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Return ADX, 0..100."""
    return np.asarray(talib.ADX(high, low, close, PERIOD))


def directional_indicators(high: FloatArray, low: FloatArray, close: FloatArray) -> TwoLines:
    """Return +DI and -DI, 0..100."""
    prices = (high, low, close, PERIOD)
    return talib.PLUS_DI(*prices), talib.MINUS_DI(*prices)


def stochastic_oscillator(high: FloatArray, low: FloatArray, close: FloatArray) -> TwoLines:
    """Return slow %K and %D, 0..100."""
    k, d = talib.STOCH(high, low, close, PERIOD, SLOWING, slowd_period=SLOWING)
    return k, d


def williams_percent_range(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Return %R, -100..0."""
    return np.asarray(talib.WILLR(high, low, close, PERIOD))


def commodity_channel(high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    """Return CCI, unbounded, mostly within +-200."""
    return np.asarray(talib.CCI(high, low, close, WINDOW))


def aroon_lines(high: FloatArray, low: FloatArray) -> ThreeLines:
    """Return Aroon up and down, 0..100, and their difference."""
    down, up = talib.AROON(high, low, AROON_PERIOD)
    return up, down, up - down


def money_flow_index(high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray) -> FloatArray:
    """Return MFI, 0..100, and 50 where no volume moved the price (not by TA-Lib: it keeps running sums)."""
    price = (high + low + close) / 3.0
    change = np.diff(price, prepend=price[0])
    rising = rolling(np.where(change > 0, price * volume, 0.0), PERIOD, np.sum)
    falling = rolling(np.where(change < 0, price * volume, 0.0), PERIOD, np.sum)
    flow = rising + falling
    return 50.0 + 50.0 * ratio(rising - falling, flow, flow == 0)


def chaikin_money_flow(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray
) -> FloatArray:
    """Return CMF, -1..1, and 0 where the window has no volume (not by TA-Lib: it keeps running sums)."""
    place = ratio(2.0 * close - high - low, high - low, high == low)
    total = rolling(volume, WINDOW, np.sum)
    return ratio(rolling(place * volume, WINDOW, np.sum), total, total == 0)


def on_balance_volume(close: FloatArray, volume: FloatArray) -> FloatArray:
    """Return OBV counted from 0 at the first bar; Granville (1963)."""
    return np.asarray(talib.OBV(close, volume) - volume[0])


def relative_volatility(close: FloatArray) -> FloatArray:
    """Return the Relative Volatility Index, 0..100: RSI of the deviation; Dorsey (1993)."""
    return np.asarray(talib.RVI(close, PERIOD, DEVIATION_PERIOD))


def relative_vigor(open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray) -> TwoLines:
    """Return the Relative Vigor Index, -1..1, and its signal line; 0 where the price did not move.

    Sum of close - open over VIGOR_PERIOD bars divided by that of high - low, each smoothed with weights
    1 2 2 1; Ehlers (2002).
    """
    body = rolling(weighted(close - open_, VIGOR_WEIGHTS), VIGOR_PERIOD, np.sum)
    span = rolling(weighted(high - low, VIGOR_WEIGHTS), VIGOR_PERIOD, np.sum)
    index = ratio(body, span, span == 0)
    return index, weighted(index, VIGOR_WEIGHTS)


def simple_average(close: FloatArray, period: int) -> FloatArray:
    """Return SMA, in units of the price."""
    return rolling(close, period, np.mean)


def return_deviation(close: FloatArray) -> FloatArray:
    """Return the standard deviation of the log returns of the window."""
    return rolling(log_returns(close), WINDOW, np.std)
