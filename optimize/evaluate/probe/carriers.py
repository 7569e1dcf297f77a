"""Columns and lags that lean on the next return, with errors that allow for overlapping labels."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from envs.types import FloatArray, IntArray, Market
from optimize.evaluate.probe.labels import HORIZONS, known_decisions
from optimize.evaluate.probe.ridge import observed_columns


@dataclass(frozen=True)
class Carrier:
    """The correlation of one column at one lag with the return of a decision."""

    column: str
    symbol: str  # of the column
    traded: str  # symbol whose return it is
    lag: int  # bars before the decision
    horizon: int  # bars for which the decision is held
    correlation: float
    t: float
    p_value: float  # two-sided, of this test alone


def find_carriers(market: Market, train: tuple[int, int], lookback: int, *, at_open: bool) -> list[Carrier]:
    """Test every column, lag, traded symbol and horizon on the train span of a scaled market.

    The standard error of a product of column and label is that of Newey and West (1987), with as many lags
    as labels overlap and those of 1994 on top; constant columns are left out.
    """
    known = known_decisions(market, *train, at_open=at_open)
    if len(known.bars) < 2:
        return []
    columns = observed_columns(market, known.bars, lookback).astype(np.float64)
    columns -= columns.mean(axis=0)
    labels = known.labels - known.labels.mean(axis=0)
    names = [
        (name, symbol, lag)
        for lag in range(lookback - 1, -1, -1)
        for symbol in market.symbols
        for name in market.feature_names
    ]
    found = []
    for place, horizon in enumerate(HORIZONS):
        for asset, traded in enumerate(market.symbols):
            label = labels[:, asset, place]
            t = _t_values(columns * label[:, None], known.bars, horizon)
            size = columns.std(axis=0) * label.std()
            for (name, symbol, lag), value, scale, product in zip(
                names, t, size, (columns * label[:, None]).mean(axis=0), strict=True
            ):
                if scale > 0 and np.isfinite(value):
                    p_value = float(2 * norm.sf(abs(value)))
                    share = float(product / scale)
                    found.append(Carrier(name, symbol, traded, lag, horizon, share, float(value), p_value))
    return found


def _t_values(products: FloatArray, bars: IntArray, horizon: int) -> FloatArray:
    """Return the mean of products (n, D) over its standard error."""
    rows = len(bars)
    centred = products - products.mean(axis=0)
    lags = min(horizon - 1 + int(4 * (rows / 100) ** (2 / 9)), rows - 1)
    variance = np.square(centred).sum(axis=0)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] * centred[:-lag]).sum(axis=0)
    error = np.sqrt(np.maximum(variance, 0.0)) / rows
    return np.where(error > 0, products.mean(axis=0) / np.where(error > 0, error, 1.0), np.nan)
