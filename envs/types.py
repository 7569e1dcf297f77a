"""The data an agent lives on: frozen arrays, the shape beside each field.

Axes everywhere: N envs, T bars, A assets, F features, L lookback, S calendar sessions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """One market at one timeframe, trimmed so that every bar has all its features."""

    symbols: tuple[str, ...]  # A names
    timeframe: str  # pandas-like: "5m", "1h", "1d"
    timestamp: IntArray  # (T,) UTC nanoseconds, start of the bar
    bar_end: IntArray  # (T,) UTC nanoseconds; a bar is known at its end, never before
    open: FloatArray  # (T, A)
    high: FloatArray  # (T, A)
    low: FloatArray  # (T, A)
    close: FloatArray  # (T, A) of an untradable bar: the last close before it
    tradable: BoolArray  # (T, A)
    spread: FloatArray  # (T, A) quoted ask - bid in units of the price, 0 where the data has none
    exit_at_open: BoolArray  # (T,) forced exit: held positions close at this bar's open, none is opened
    exit_at_close: BoolArray  # (T,) last bar of a session that ends flat: what is left closes at its close
    features: NDArray[np.float32]  # (T, A, F)
    feature_names: tuple[str, ...]  # F names, in order
    session: IntArray  # (T,) ordinal of the calendar session that the bar belongs to, non-decreasing
    session_date: NDArray[np.datetime64]  # (S,) datetime64[D] label of ordinal 0..S-1, gaps in bars included
    sessions_per_year: float
    hold_moments: FloatArray  # (3,) of the train span, from rewards.hold_moments; NaN where none was given
    fingerprint: str  # SHA-256 over bars, timeframe, feature list and calendar

    @property
    def n_bars(self) -> int:
        """Return T."""
        return len(self.timestamp)

    @property
    def n_assets(self) -> int:
        """Return A."""
        return len(self.symbols)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The state of N accounts; the arrays are written in place by the ledger."""

    cash: FloatArray  # (N,) in units of starting equity
    quantity: FloatArray  # (N, A) signed units held
    equity: FloatArray  # (N,) cash + positions at the last close
    peak: FloatArray  # (N,) highest equity of this episode
    weight: FloatArray  # (N, A) position value / equity at the last close
    last_return: FloatArray  # (N,) log return of the last step
    order: FloatArray  # (N, A) the last target exposure that was ordered; 0 after a forced exit


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """What the last step traded and paid; the arrays are written in place by the ledger.

    The order fills at the open of the bar that ends the step, or at the close before it (env.fill=close); the
    exit_... trade is the forced one at the close of that bar. Turnover and cash have both, and what was paid
    is commission + exit_commission + slippage + exit_slippage + financing.
    """

    quantity: FloatArray  # (N, A) signed units bought (+) or sold (-)
    price: FloatArray  # (N, A) price before slippage at which the order filled
    commission: FloatArray  # (N, A) >= 0
    slippage: FloatArray  # (N, A) >= 0, half the spread included
    financing: FloatArray  # (N,) interest paid (+) or earned (-)
    turnover: FloatArray  # (N,) traded notional / equity before the fill
    forced: BoolArray  # (N, A) closed by the session's exit, though the order was not 0
    exit_quantity: FloatArray  # (N, A) signed units of what was closed at the session's last close, else 0
    exit_price: FloatArray  # (N, A) price before slippage of that exit, else 0
    exit_commission: FloatArray  # (N, A) >= 0
    exit_slippage: FloatArray  # (N, A) >= 0
