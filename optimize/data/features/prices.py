"""Features of prices: returns and ranges, momentum, trend, volatility."""

import numpy as np

from envs.types import FloatArray
from optimize.data.features import indicators
from optimize.data.features.indicators import (
    AROON_PERIOD,
    DEVIATION_PERIOD,
    EMA_BARS,
    PERIOD,
    SLOWING,
    VIGOR_BARS,
    VIGOR_WEIGHTS,
    WILDER_BARS,
    WINDOW,
)
from optimize.data.features.registry import AssetBars, feature
from optimize.data.features.rolling import FLAT, FORGOTTEN, log_returns, ratio

AVERAGES = (7, 14, 21, 50)


@feature("returns", group="price", warmup=1)
def returns(bars: AssetBars) -> list[FloatArray]:
    """Return the log return from close to close."""
    return [log_returns(bars.close)]


@feature("range", "range", "body", group="price", warmup=0)
def price_range(bars: AssetBars) -> list[FloatArray]:
    """Return the log range, log(high / low), and the log body, log(close / open)."""
    return [np.log(bars.high / bars.low), np.log(bars.close / bars.open)]


@feature("rsi", group="oscillator", warmup=WILDER_BARS)
def rsi(bars: AssetBars) -> list[FloatArray]:
    """Return the relative strength index (RSI), -1..1."""
    return [indicators.relative_strength(bars.close) / 50.0 - 1.0]


@feature("macd", "macd", "macd_signal", group="trend", warmup=EMA_BARS)
def macd(bars: AssetBars) -> list[FloatArray]:
    """Return the MACD line and its signal line, as shares of the price."""
    line, signal = indicators.moving_averages_gap(bars.close)
    return [line / bars.close, signal / bars.close]


@feature("bollinger", "bollinger_position", "bollinger_width", group="volatility", warmup=WINDOW - 1)
def bollinger(bars: AssetBars) -> list[FloatArray]:
    """Return the position within the Bollinger bands (-1 lower, 1 upper) and their half width / price."""
    middle, half = indicators.bollinger_bands(bars.close)
    return [ratio(bars.close - middle, half, half <= FLAT * bars.close), half / bars.close]


@feature("atr", group="volatility", warmup=WILDER_BARS)
def atr(bars: AssetBars) -> list[FloatArray]:
    """Return the average true range as a share of the price."""
    return [indicators.average_true_range(bars.high, bars.low, bars.close) / bars.close]


@feature("adx", "adx", "directional_index", group="trend", warmup=PERIOD + WILDER_BARS)
def adx(bars: AssetBars) -> list[FloatArray]:
    """Return the average directional index (ADX), 0..1, and the difference +DI - -DI, -1..1."""
    prices = (bars.high, bars.low, bars.close)
    plus, minus = indicators.directional_indicators(*prices)
    return [indicators.average_directional_index(*prices) / 100.0, (plus - minus) / 100.0]


@feature("volatility", group="volatility", warmup=WINDOW)
def rolling_volatility(bars: AssetBars) -> list[FloatArray]:
    """Return the standard deviation of the log returns of the last 20 bars."""
    return [indicators.return_deviation(bars.close)]


@feature("volatility_regime", group="volatility", warmup=WINDOW, kind="binned")
def volatility_regime(bars: AssetBars) -> list[FloatArray]:
    """Return the volatility, binned by the scaler to -1, 0 or 1 at the terciles of the train span."""
    return [indicators.return_deviation(bars.close)]


@feature("directional_movement", "plus_di", "minus_di", group="trend", warmup=WILDER_BARS)
def directional_movement(bars: AssetBars) -> list[FloatArray]:
    """Return the directional indicators +DI and -DI, 0..1."""
    plus, minus = indicators.directional_indicators(bars.high, bars.low, bars.close)
    return [plus / 100.0, minus / 100.0]


@feature("stochastic", "stochastic_k", "stochastic_d", group="oscillator", warmup=PERIOD + 2 * SLOWING - 3)
def stochastic(bars: AssetBars) -> list[FloatArray]:
    """Return the slow stochastic oscillator, %K and %D, -1..1."""
    k, d = indicators.stochastic_oscillator(bars.high, bars.low, bars.close)
    return [k / 50.0 - 1.0, d / 50.0 - 1.0]


@feature("williams_r", group="oscillator", warmup=PERIOD - 1)
def williams_r(bars: AssetBars) -> list[FloatArray]:
    """Return Williams %R, -1..1."""
    return [indicators.williams_percent_range(bars.high, bars.low, bars.close) / 50.0 + 1.0]


@feature("cci", group="oscillator", warmup=WINDOW - 1)
def cci(bars: AssetBars) -> list[FloatArray]:
    """Return the commodity channel index (CCI) divided by 100; beyond 1 a move is strong (Lambert)."""
    return [indicators.commodity_channel(bars.high, bars.low, bars.close) / 100.0]


@feature("aroon", "aroon_up", "aroon_down", "aroon_oscillator", group="trend", warmup=AROON_PERIOD)
def aroon(bars: AssetBars) -> list[FloatArray]:
    """Return Aroon up and Aroon down, 0..1, and their difference, -1..1."""
    return [line / 100.0 for line in indicators.aroon_lines(bars.high, bars.low)]


@feature("rvi_volatility", group="volatility", warmup=DEVIATION_PERIOD + WILDER_BARS)
def rvi_volatility(bars: AssetBars) -> list[FloatArray]:
    """Return the Relative Volatility Index, -1..1."""
    return [indicators.relative_volatility(bars.close) / 50.0 - 1.0]


@feature(
    "rvi_vigor",
    "rvi_vigor",
    "rvi_vigor_signal",
    group="oscillator",
    warmup=VIGOR_BARS + len(VIGOR_WEIGHTS) - 1,
)
def rvi_vigor(bars: AssetBars) -> list[FloatArray]:
    """Return the Relative Vigor Index and its signal line, -1..1."""
    return list(indicators.relative_vigor(bars.open, bars.high, bars.low, bars.close))


@feature(
    "sma_ratio", *(f"price_to_sma_{period}" for period in AVERAGES), group="trend", warmup=max(AVERAGES) - 1
)
def sma_ratio(bars: AssetBars) -> list[FloatArray]:
    """Return the distance of the close from its moving averages of 7, 14, 21 and 50 bars, as a share."""
    return [bars.close / indicators.simple_average(bars.close, period) - 1.0 for period in AVERAGES]


@feature(
    "sma", *(f"sma_{period}" for period in AVERAGES), group="trend", warmup=max(AVERAGES) - 1, kind="level"
)
def sma(bars: AssetBars) -> list[FloatArray]:
    """Return the moving averages of 7, 14, 21 and 50 bars, in units of the price."""
    return [indicators.simple_average(bars.close, period) for period in AVERAGES]


@feature(
    "ohlcv",
    "open",
    "high",
    "low",
    "close",
    "volume",
    group="price",
    warmup=0,
    needs=("volume",),
    kind="level",
)
def ohlcv(bars: AssetBars) -> list[FloatArray]:
    """Return open, high, low, close and volume of the bar, in their own units."""
    return [bars.open, bars.high, bars.low, bars.close, bars.volume]


@feature("spread", "spread", "spread_atr", group="price", warmup=WILDER_BARS, needs=("spread",))
def spread(bars: AssetBars) -> list[FloatArray]:
    """Return the quoted spread as a share of the price and of the average true range (0 if that is 0)."""
    true_range = indicators.average_true_range(bars.high, bars.low, bars.close)
    return [bars.spread / bars.close, ratio(bars.spread, true_range, true_range <= FORGOTTEN * bars.close)]
