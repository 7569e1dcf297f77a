"""Convert pandas frames to bars, and bars and markets to frames and files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.types import FloatArray, Market
from optimize.atomic import replacing
from optimize.data.bars import Bars, RawBars
from optimize.data.quality.rows import checked_bars
from optimize.data.spec import DataSpec
from optimize.data.symbols import alike
from optimize.errors import BadInputError

PRICES = ("open", "high", "low", "close")
NAMING = ("symbol", "ticker")  # names of a column that holds the symbol of each bar
OPTIONAL_SERIES = ("volume", "spread")  # 0 where a frame has none
FROM_BARS = (*PRICES, "volume", "spread", "tradable")
FROM_MARKET = (*PRICES, "spread", "tradable")


def bars_of_frames(frames: pd.DataFrame | Mapping[str, pd.DataFrame], spec: DataSpec) -> Bars:
    """Return checked bars from one frame, or from a frame per symbol in the order of spec.symbols."""
    if isinstance(frames, pd.DataFrame):
        if len(spec.symbols) != 1:
            raise BadInputError(f"bars must be a dict with one frame for each of {', '.join(spec.symbols)}")
        frames = {spec.symbols[0]: frames}
    absent = [symbol for symbol in spec.symbols if symbol not in frames]
    if absent:
        raise BadInputError(
            f"bars: no frame for {', '.join(absent)} (there are: {', '.join(map(str, frames))})"
        )
    parts = [_raw_bars(frames[symbol], symbol) for symbol in spec.symbols]
    return checked_bars(parts, spec)


def _raw_bars(frame: pd.DataFrame, symbol: str) -> RawBars:
    """Return the rows of a frame indexed by the start of each bar; timestamps without a zone are UTC."""
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
    columns = {name: _numbers(frame, names.get(name)) for name in (*PRICES, *OPTIONAL_SERIES)}
    spread = columns.pop("spread")
    ohlcv = np.stack(list(columns.values()), axis=1)
    timestamp = stamps.as_unit("ns").asi8
    return RawBars(symbol, f"bars of {symbol}", timestamp, ohlcv, spread, None, "volume" in names)


def _numbers(frame: pd.DataFrame, column: object) -> FloatArray:
    """Return a column (T,) as float64; zeros if it is absent."""
    if column is None:
        return np.zeros(len(frame))
    try:
        return frame[column].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"bars: column {column!r} holds text, not numbers ({error})") from None


def frame_of_bars(bars: Bars) -> pd.DataFrame:
    """Return bars as T * A rows by time and symbol; timestamp is the UTC start of a bar, known_at its end."""
    columns = {name: getattr(bars, name) for name in FROM_BARS}
    return _table(bars.symbols, bars.timestamp, bars.bar_end, columns)


def frame_of_market(market: Market) -> pd.DataFrame:
    """Return bars and features as T * A rows, with the date of each bar's session."""
    columns: dict[str, NDArray[Any]] = {name: getattr(market, name) for name in FROM_MARKET}
    dates = market.session_date[market.session].astype("datetime64[s]")
    columns["session"] = np.repeat(dates[:, None], market.n_assets, axis=1)
    columns |= {name: market.features[:, :, place] for place, name in enumerate(market.feature_names)}
    return _table(market.symbols, market.timestamp, market.bar_end, columns)


def write_frame(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet or CSV by the suffix of the path; an error leaves no partial file."""
    try:
        with replacing(path) as partial:
            if path.suffix.lower() == ".csv":
                table.to_csv(partial, index=False)
            else:
                table.to_parquet(partial, index=False)
    except OSError as error:
        raise BadInputError(
            f"output={path} cannot be written ({error.strerror or error}): name a file in an existing folder"
        ) from None


def _table(
    symbols: tuple[str, ...], start: NDArray[Any], end: NDArray[Any], columns: dict[str, NDArray[Any]]
) -> pd.DataFrame:
    """Return columns (T, A) as a frame of T * A rows; the symbols of a bar follow each other."""
    assets = len(symbols)
    stamps = {
        "timestamp": pd.DatetimeIndex(np.repeat(start, assets), tz="UTC"),
        "known_at": pd.DatetimeIndex(np.repeat(end, assets), tz="UTC"),
    }
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame({**stamps, "symbol": np.tile(np.array(symbols, dtype=object), len(start)), **flat})
