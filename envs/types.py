"""Arrays of a market, of accounts and of fills, with dtype and shape beside each field.

Axes everywhere: N envs, T bars, A assets, F features, L lookback, S calendar sessions, M moments.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
DateArray = NDArray[np.datetime64]


class ArraySpec(NamedTuple):
    """Declared dtype and axes of an array; M has length 3, the others vary."""

    dtype: str
    axes: str


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """One market at one timeframe, trimmed so that every bar has all its features."""

    symbols: tuple[str, ...]  # A names
    timeframe: str  # pandas-like: "5m", "1h", "1d"
    timestamp: Annotated[IntArray, ArraySpec("int64", "T")]  # UTC nanoseconds, start of the bar
    bar_end: Annotated[IntArray, ArraySpec("int64", "T")]  # UTC nanoseconds; no bar is known before its end
    open: Annotated[FloatArray, ArraySpec("float64", "TA")]
    high: Annotated[FloatArray, ArraySpec("float64", "TA")]
    low: Annotated[FloatArray, ArraySpec("float64", "TA")]
    close: Annotated[FloatArray, ArraySpec("float64", "TA")]  # of an untradable bar: the close before it
    tradable: Annotated[BoolArray, ArraySpec("bool", "TA")]
    spread: Annotated[FloatArray, ArraySpec("float64", "TA")]  # ask - bid in price units, 0 if unknown
    exit_at_open: Annotated[BoolArray, ArraySpec("bool", "T")]  # forced exit at this open, no new positions
    exit_at_close: Annotated[BoolArray, ArraySpec("bool", "T")]  # forced exit at the last close of a session
    features: Annotated[NDArray[np.float32], ArraySpec("float32", "TAF")]
    feature_names: tuple[str, ...]  # F names, in order
    session: Annotated[IntArray, ArraySpec("int64", "T")]  # ordinal of the bar's session, non-decreasing
    session_date: Annotated[DateArray, ArraySpec("datetime64[D]", "S")]  # sessions without bars included
    sessions_per_year: float
    hold_moments: Annotated[FloatArray, ArraySpec("float64", "M")]  # of buy-and-hold in training, or NaN
    fingerprint: str  # SHA-256 over bars, timeframe, feature list and calendar

    @property
    def n_bars(self) -> int:
        """Return T."""
        return len(self.timestamp)

    @property
    def n_assets(self) -> int:
        """Return A."""
        return len(self.symbols)


def array_specs(market_type: type[Market]) -> dict[str, ArraySpec]:
    """Return the declared dtype and axes of each array of a market class, by field name."""
    hints = get_type_hints(market_type, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def scalar_types(market_type: type[Market]) -> dict[str, type]:
    """Return the type (str, float or tuple) of each field of a market class that is not an array."""
    hints = get_type_hints(market_type)
    arrays = array_specs(market_type)
    return {name: get_origin(hint) or hint for name, hint in hints.items() if name not in arrays}


class Account(NamedTuple):
    """State of N accounts; the ledger writes the arrays in place."""

    cash: FloatArray  # (N,) in units of starting equity
    quantity: FloatArray  # (N, A) signed units held
    equity: FloatArray  # (N,) cash + positions at the last close
    peak: FloatArray  # (N,) highest equity of this episode
    weight: FloatArray  # (N, A) position value / equity at the last close
    last_return: FloatArray  # (N,) log return of the last step
    order: FloatArray  # (N, A) the last target exposure that was ordered; 0 after a forced exit
    entry: FloatArray  # (N, A) mean price at which the position was opened, 0 without one


class Fill(NamedTuple):
    """Quantities traded and amounts paid in the last step; the ledger writes the arrays in place.

    The order fills at the open of the bar that ends the step, or at the close before it (env.fill=close);
    exit_... is the forced exit at the close of that bar, or the liquidation within it at its high or low.
    Turnover and cash include both; the total cost is commission + exit_commission + slippage +
    exit_slippage + financing + interest.
    """

    quantity: FloatArray  # (N, A) signed units bought (+) or sold (-)
    price: FloatArray  # (N, A) price before slippage at which the order filled
    commission: FloatArray  # (N, A) >= 0
    slippage: FloatArray  # (N, A) >= 0, half the spread included
    financing: FloatArray  # (N,) interest and fees paid (+) less interest earned (-)
    turnover: FloatArray  # (N,) traded notional / equity before the fill
    forced: BoolArray  # (N, A) closed by the session's exit, though the order was not 0
    exit_quantity: FloatArray  # (N, A) signed units closed by a forced exit or a liquidation, else 0
    exit_price: FloatArray  # (N, A) price before slippage of that exit, else 0
    exit_commission: FloatArray  # (N, A) >= 0
    exit_slippage: FloatArray  # (N, A) >= 0
    interest: FloatArray  # (N,) >= 0 earned on idle cash; a part of financing, and no cost
    liquidated: BoolArray  # (N,) whether the maintenance margin closed the positions
