"""Bars from pandas frames, for callers that hold their bars in memory."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from envs.types import FloatArray
from optimize.data.bars import Bars, RawBars, join_bars, make_bars
from optimize.data.quality.findings import judge, refuse
from optimize.data.quality.rows import row_findings
from optimize.data.sources.parts import alike
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError

PRICES = ("open", "high", "low", "close")
NAMING = ("symbol", "ticker")  # columns with the symbol of each bar
OPTIONAL = ("volume", "spread")  # 0 where a frame has none


def bars_of_frames(frames: pd.DataFrame | Mapping[str, pd.DataFrame], spec: DataSpec) -> Bars:
    """Return checked bars of one frame, or of one a symbol in the order of spec.symbols."""
    if isinstance(frames, pd.DataFrame):
        if len(spec.symbols) != 1:
            raise BadInputError(f"bars: one frame for each of {', '.join(spec.symbols)}, as a dict by symbol")
        frames = {spec.symbols[0]: frames}
    absent = [symbol for symbol in spec.symbols if symbol not in frames]
    if absent:
        raise BadInputError(
            f"bars: no frame for {', '.join(absent)} (there are: {', '.join(map(str, frames))})"
        )
    parts = [_raw_bars(frames[symbol], symbol) for symbol in spec.symbols]
    refuse(judge([found for raw in parts for found in row_findings(raw)], spec.severity))
    return join_bars([make_bars(raw, spec.zero_volume) for raw in parts])


def _raw_bars(frame: pd.DataFrame, symbol: str) -> RawBars:
    """Return the rows of a frame whose index is the start of each bar; naive stamps are UTC."""
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex):
        raise BadInputError(
            f"bars of {symbol}: the index is a {type(index).__name__}, must be a DatetimeIndex of bar starts"
        )
    stamps = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    names = {str(column).strip().lower(): column for column in frame.columns}
    for name in NAMING:
        named = sorted({str(value) for value in frame[names[name]]}) if name in names else [symbol]
        if any(alike(each) != alike(symbol) for each in named):
            raise BadInputError(
                f"bars of {symbol}: column {name!r} names {', '.join(named[:3])}: give bars of {symbol}, "
                "or take the column out"
            )
    lacking = [name for name in PRICES if name not in names]
    if lacking:
        raise BadInputError(
            f"bars of {symbol}: no column {', '.join(lacking)} (there are: {', '.join(names)})"
        )
    columns = {name: _numbers(frame, names.get(name)) for name in (*PRICES, *OPTIONAL)}
    spread = columns.pop("spread")
    ohlcv = np.stack(list(columns.values()), axis=1)
    timestamp = stamps.as_unit("ns").asi8
    return RawBars(symbol, f"bars of {symbol}", timestamp, ohlcv, spread, None, "volume" in names)


def _numbers(frame: pd.DataFrame, column: object) -> FloatArray:
    """Return a column (T,) as float64, zeros for an absent one."""
    if column is None:
        return np.zeros(len(frame))
    try:
        return frame[column].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"bars: column {column!r} holds text, not numbers ({error})") from None
