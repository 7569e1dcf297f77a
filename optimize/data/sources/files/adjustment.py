"""Adjust prices for splits and dividends, and convert spreads to units of the price."""

from pathlib import Path

import numpy as np

from envs.types import FloatArray
from optimize.data.sources.files.column_names import ADJUSTED_NAMES, plain_name
from optimize.data.sources.files.columns import Columns
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

MAX_SPREAD = 0.01  # share of the price; a larger spread is in points
MAX_SIZED = 0.1  # the same if data.point_size is given
MAX_DIGITS = 6
FIXED_POINT = 1e9  # larger whole numbers are fixed-point prices
DIFFERING = 1e-6  # relative
CROSSED = 1e-9  # relative


def adjust(
    prices: FloatArray, adjusted: FloatArray, found: Columns, spec: DataSpec, path: Path
) -> tuple[str, ...]:
    """Scale open, high, low, close (T, 4) in place by adjusted close / close if data.adjust is true."""
    if spec.adjust and found.adjusted is None:
        raise BadInputError(
            f"data.adjust=true, but {path} has no column of adjusted closes, such as Adj Close"
        )
    if plain_name(found.close) in ADJUSTED_NAMES:
        _refuse_mixed(prices, found, path)
        return ()
    if found.adjusted is None:
        return ()
    ratio = adjusted / prices[:, 3]
    if spec.adjust:
        prices *= ratio[:, None]
        return (f"prices scaled by {found.adjusted!r} / {found.close!r}",)
    differs = bool(np.nanmax(np.abs(ratio - 1.0), initial=0.0) > DIFFERING)
    return (f"{found.adjusted!r} is not used (data.adjust=true scales all prices by it)",) if differs else ()


def _refuse_mixed(prices: FloatArray, found: Columns, path: Path) -> None:
    """Refuse an adjusted close together with unadjusted open, high and low."""
    high, low, close = prices[:, 1:].T
    slack = CROSSED * np.abs(close)
    crossed = (close > high + slack) | (close < low - slack)
    if crossed.any():
        raise BadInputError(
            f"{path}: {found.close!r} as the close lies outside low and high in {int(crossed.sum())} rows, "
            "for open, "
            "high and low are not adjusted: leave data.columns.close, and set data.adjust=true, which "
            "scales all "
            "four"
        )


def fixed_point(prices: FloatArray) -> tuple[str, ...]:
    """Return a note if prices (T, 4) look like fixed-point numbers."""
    known = prices[np.isfinite(prices)]
    if not len(known) or np.median(known) < FIXED_POINT or not _whole(known):
        return ()
    return (
        f"prices such as {known[0]:.15g} taken as they are; fixed-point ones (Databento's unit is 1e-9) must "
        "be scaled before costs by the share fit them",
    )


def spread_in_price(
    spread: FloatArray, prices: FloatArray, found: Columns, spec: DataSpec, path: Path
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the spread in units of the price; a spread in points is multiplied by the point size."""
    if found.spread is None:
        return spread, ()
    notes: tuple[str, ...] = ()
    size = spec.point_size
    if size is None and found.metatrader and _whole(spread):
        size = 10.0 ** -_digits(prices)
        notes = (
            f"spread in points of {size:g}, as MetaTrader writes it (data.point_size names another size)",
        )
    elif size is not None:
        notes = (f"spread in points of {size:g}",)
    if size is not None:
        spread = spread * size
    _refuse_wide(spread, prices, found, spec, path)
    return spread, notes


def _refuse_wide(spread: FloatArray, prices: FloatArray, found: Columns, spec: DataSpec, path: Path) -> None:
    """Refuse a spread whose median is too large a share of the price."""
    quoted = (spread > 0) & (prices[:, 3] > 0)
    if not quoted.any():
        return
    usual, price = float(np.median(spread[quoted])), float(np.median(prices[quoted, 3]))
    limit = MAX_SPREAD if spec.point_size is None else MAX_SIZED
    if usual <= limit * price:
        return
    size = 10.0 ** -_digits(prices)
    raise BadInputError(
        f"{path}: column {found.spread!r} is {usual:g} at a price of {price:g}, more than {limit:.0%} of "
        "it, so it is "
        f"in points: name the price of one point with data.point_size, such as data.point_size={size:g} (1 "
        "where it is in price units)"
    )


def _whole(values: FloatArray) -> bool:
    """Return whether all numbers are whole and not all are zero."""
    known = values[np.isfinite(values)]
    return bool(known.any()) and bool((known == np.round(known)).all())


def _digits(prices: FloatArray) -> int:
    """Return the largest number of decimals in prices."""
    known = prices[np.isfinite(prices)]
    for digits in range(MAX_DIGITS):
        scaled = known * 10.0**digits
        if not len(known) or np.abs(scaled - np.round(scaled)).max() < 1e-4:
            return digits
    return MAX_DIGITS
