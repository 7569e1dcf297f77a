"""Bars and features as one table, a row a bar and symbol, and the file of it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.types import Market
from optimize.data.bars import Bars
from optimize.data.durable import sync
from optimize.errors import BadInputError

PRICES = ("open", "high", "low", "close")
FROM_BARS = (*PRICES, "volume", "spread", "tradable")
FROM_MARKET = (*PRICES, "spread", "tradable")


def table_of_bars(bars: Bars) -> pd.DataFrame:
    """Return bars (T * A rows) by time and symbol; timestamp is the UTC start of a bar, known_at its end."""
    columns = {name: getattr(bars, name) for name in FROM_BARS}
    return _table(bars.symbols, bars.timestamp, bars.bar_end, columns)


def table_of_market(market: Market) -> pd.DataFrame:
    """Return bars and features (T * A rows), with the date of each bar's session."""
    columns: dict[str, NDArray[Any]] = {name: getattr(market, name) for name in FROM_MARKET}
    dates = market.session_date[market.session].astype("datetime64[s]")
    columns["session"] = np.repeat(dates[:, None], market.n_assets, axis=1)
    columns |= {name: market.features[:, :, place] for place, name in enumerate(market.feature_names)}
    return _table(market.symbols, market.timestamp, market.bar_end, columns)


def write_output(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet or CSV, by the suffix of the path, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix.lower() == ".csv":
            table.to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)
        sync(aside)
        aside.replace(path)
    except OSError as error:
        raise BadInputError(
            f"output={path} cannot be written ({error.strerror or error}): name a file in an existing folder"
        ) from None
    finally:
        aside.unlink(missing_ok=True)


def _table(
    symbols: tuple[str, ...], start: NDArray[Any], end: NDArray[Any], columns: dict[str, NDArray[Any]]
) -> pd.DataFrame:
    """Return columns (T, A) as a frame of T * A rows, the symbols of a bar one after another."""
    assets = len(symbols)
    stamps = {
        "timestamp": pd.DatetimeIndex(np.repeat(start, assets), tz="UTC"),
        "known_at": pd.DatetimeIndex(np.repeat(end, assets), tz="UTC"),
    }
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return pd.DataFrame({**stamps, "symbol": np.tile(np.array(symbols, dtype=object), len(start)), **flat})
