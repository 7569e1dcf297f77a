"""What an agent sees: scale-free, causal numbers of one asset's bars.

A feature at bar t reads bars <= t only, and a tail of its warm-up reproduces it within 1e-6.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import talib
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from envs.types import FloatArray, IntArray
from optimize.data.bars import Bars, utc_text
from optimize.data.spec import DAY_NS
from optimize.errors import NumericError, require

PERIOD = 14  # Wilder (1978): RSI, ATR and ADX
WINDOW = 20  # Bollinger (1992): bands of 20 bars, 2 standard deviations
BAND_WIDTH = 2.0
FAST, SLOW, SIGNAL = 12, 26, 9  # Appel (1979): MACD
FORGOTTEN = 1e-10  # share of a recursive average's seed that is left after its warm-up
FLAT = 1e-12  # a band narrower than this share of the price has no width


def _forget_bars(decay: float) -> int:
    """Return the bars after which decay**n < FORGOTTEN."""
    return math.ceil(math.log(FORGOTTEN) / math.log(decay))


WILDER_BARS = PERIOD + _forget_bars(1 - 1 / PERIOD)
EMA_BARS = SLOW + SIGNAL + _forget_bars(1 - 2 / (SLOW + 1))


@dataclass(frozen=True, slots=True, eq=False)
class AssetBars:
    """The bars of one asset."""

    bar_end: IntArray  # (T,) UTC nanoseconds
    open: FloatArray  # (T,)
    high: FloatArray  # (T,)
    low: FloatArray  # (T,)
    close: FloatArray  # (T,)


Compute = Callable[[AssetBars], list[FloatArray]]


@dataclass(frozen=True)
class Feature:
    """A registered feature: its columns, how to compute them and the bars before they settle."""

    columns: tuple[str, ...]
    warmup: int  # rows before the first that may be used
    compute: Compute


FEATURES: dict[str, Feature] = {}


def feature(name: str, *columns: str, warmup: int) -> Callable[[Compute], Compute]:
    """Register a function that returns one array (T,) a column."""

    def register(compute: Compute) -> Compute:
        FEATURES[name] = Feature(columns or (name,), warmup, compute)
        return compute

    return register


@feature("returns", warmup=1)
def returns(bars: AssetBars) -> list[FloatArray]:
    """Return the log return from close to close."""
    return [_log_return(bars.close)]


@feature("range", "range", "body", warmup=0)
def price_range(bars: AssetBars) -> list[FloatArray]:
    """Return log(high / low) and log(close / open)."""
    return [np.log(bars.high / bars.low), np.log(bars.close / bars.open)]


@feature("rsi", warmup=WILDER_BARS)
def rsi(bars: AssetBars) -> list[FloatArray]:
    """Return the relative strength index as -1..1."""
    return [talib.RSI(bars.close, PERIOD) / 50.0 - 1.0]


@feature("macd", "macd", "macd_signal", warmup=EMA_BARS)
def macd(bars: AssetBars) -> list[FloatArray]:
    """Return MACD and its signal line as shares of the price."""
    line, signal, _ = talib.MACD(bars.close, FAST, SLOW, SIGNAL)
    return [line / bars.close, signal / bars.close]


@feature("bollinger", "bollinger_position", "bollinger_width", warmup=WINDOW - 1)
def bollinger(bars: AssetBars) -> list[FloatArray]:
    """Return the place in the bands (-1 lower, 1 upper) and their half width as a share of the price."""
    middle, half = _rolling(bars.close, np.mean), BAND_WIDTH * _rolling(bars.close, np.std)
    flat = half <= FLAT * bars.close
    position = np.where(flat, 0.0, (bars.close - middle) / np.where(flat, 1.0, half))
    return [position, half / bars.close]


@feature("atr", warmup=WILDER_BARS)
def atr(bars: AssetBars) -> list[FloatArray]:
    """Return the average true range as a share of the price."""
    return [talib.ATR(bars.high, bars.low, bars.close, PERIOD) / bars.close]


@feature("adx", "adx", "directional_index", warmup=PERIOD + WILDER_BARS)
def adx(bars: AssetBars) -> list[FloatArray]:
    """Return the average directional index as 0..1 and (+DI - -DI) as -1..1."""
    prices = (bars.high, bars.low, bars.close, PERIOD)
    return [talib.ADX(*prices) / 100.0, (talib.PLUS_DI(*prices) - talib.MINUS_DI(*prices)) / 100.0]


@feature("volatility", warmup=WINDOW)
def volatility(bars: AssetBars) -> list[FloatArray]:
    """Return the standard deviation of the log returns of the window."""
    return [_rolling(_log_return(bars.close), np.std)]


@feature("time_of_day", "time_of_day_sin", "time_of_day_cos", warmup=0)
def time_of_day(bars: AssetBars) -> list[FloatArray]:
    """Return the UTC time of day at the bar's end, as a point on a circle."""
    return _circle(bars.bar_end, DAY_NS)


@feature("time_of_week", "time_of_week_sin", "time_of_week_cos", warmup=0)
def time_of_week(bars: AssetBars) -> list[FloatArray]:
    """Return the UTC time of the week at the bar's end, as a point on a circle."""
    return _circle(bars.bar_end, 7 * DAY_NS)


def warmup_bars(names: Sequence[str]) -> int:
    """Return the bars that the slowest of the named features needs; refuse unknown or repeated names."""
    known = ", ".join(FEATURES)
    for name in names:
        require(name in FEATURES, "feature.indicators", name, f"one of {known}")
    distinct = len(set(names)) == len(names) > 0
    require(distinct, "feature.indicators", list(names), "a non-empty list without repeats")
    return max(FEATURES[name].warmup for name in names)


def compute(bars: Bars, names: Sequence[str]) -> tuple[NDArray[np.float32], tuple[str, ...], int]:
    """Return features (T, A, F) float32, their F names in order, and the first row that may be used."""
    warmup = warmup_bars(names)
    columns = tuple(column for name in names for column in FEATURES[name].columns)
    features = np.empty((bars.n_bars, len(bars.symbols), len(columns)), dtype=np.float32)
    for asset in range(len(bars.symbols)):
        prices = (bars.open, bars.high, bars.low, bars.close)
        one = AssetBars(bars.bar_end, *(np.ascontiguousarray(price[:, asset]) for price in prices))
        arrays = [array for name in names for array in FEATURES[name].compute(one)]
        features[:, asset] = np.stack(arrays, axis=1)
    _refuse_undefined(features, columns, warmup, bars)
    return features, columns, warmup


def _refuse_undefined(
    features: NDArray[np.float32], columns: tuple[str, ...], warmup: int, bars: Bars
) -> None:
    """Raise NumericError for the first value after the warm-up that is not finite."""
    rows, assets, fields = np.nonzero(~np.isfinite(features[warmup:]))
    if len(rows):
        at = utc_text(bars.timestamp[warmup + rows[0]])
        raise NumericError(
            f"feature {columns[fields[0]]} of {bars.symbols[assets[0]]} is not finite at {at} "
            f"({len(rows)} values): take it out of feature.indicators or repair the prices"
        )


def _log_return(close: FloatArray) -> FloatArray:
    """Return log(close / previous close), NaN in the first row."""
    result = np.full_like(close, np.nan)
    result[1:] = np.log(close[1:] / close[:-1])
    return result


def _rolling(values: FloatArray, statistic: Callable[..., FloatArray]) -> FloatArray:
    """Return a statistic of the last WINDOW values, NaN before.

    TA-Lib keeps running sums here, whose rounding grows with the history and parts a tail from the whole.
    """
    result = np.full_like(values, np.nan)
    if len(values) >= WINDOW:
        result[WINDOW - 1 :] = statistic(sliding_window_view(values, WINDOW), axis=1)
    return result


def _circle(stamps: IntArray, period_ns: int) -> list[FloatArray]:
    """Return sine and cosine of the phase of stamps in a period."""
    angle = 2.0 * np.pi * (stamps % period_ns) / period_ns
    return [np.sin(angle), np.cos(angle)]
