"""Small synthetic markets for tests."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from envs.types import Market, array_specs

START = "2024-01-01"
DAYS_PER_YEAR = 365.0


def make_market(
    close: ArrayLike,
    *,
    open: ArrayLike | None = None,
    features: int | NDArray[np.float32] = 3,
    seed: int = 0,
    timeframe: str = "1h",
    tradable: ArrayLike | None = None,
) -> Market:
    """Build a gapless UTC market from closes (T,) or (T, A); opens default to the close before.

    `features` is the number of random columns, or the (T, A, F) array itself.
    """
    close_prices = _columns(close)
    n_bars, n_assets = close_prices.shape
    open_prices = np.vstack([close_prices[:1], close_prices[:-1]]) if open is None else _columns(open)
    if isinstance(features, int):
        columns = np.random.default_rng(seed).normal(size=(n_bars, n_assets, features)).astype(np.float32)
    else:
        columns = np.asarray(features, dtype=np.float32)
    timestamp, bar_end = _clock(n_bars, timeframe)
    day = (bar_end - 1) // pd.Timedelta("1D").value
    session_date = np.arange(day[0], day[-1] + 1).astype("datetime64[D]")
    digest = hashlib.sha256()
    for array in (timestamp, open_prices, close_prices, columns):
        digest.update(np.ascontiguousarray(array).tobytes())
    arrays: dict[str, NDArray[Any]] = {
        "timestamp": timestamp,
        "bar_end": bar_end,
        "open": open_prices,
        "high": np.maximum(open_prices, close_prices),
        "low": np.minimum(open_prices, close_prices),
        "close": close_prices,
        "tradable": np.ones((n_bars, n_assets), bool) if tradable is None else _columns(tradable, bool),
        "features": columns,
        "session": (day - day[0]).astype(np.int64),
        "session_date": session_date,
        "hold_moments": np.full(3, np.nan),
    }
    sizes = {"T": n_bars, "A": n_assets, "F": columns.shape[2], "S": len(session_date), "M": 3}
    zeros = {
        name: np.zeros([sizes[axis] for axis in spec.axes], spec.dtype)
        for name, spec in array_specs(Market).items()
    }
    return Market(
        symbols=tuple(f"ASSET{index}" for index in range(n_assets)),
        timeframe=timeframe,
        feature_names=tuple(f"feature_{index}" for index in range(columns.shape[2])),
        sessions_per_year=DAYS_PER_YEAR,
        fingerprint=digest.hexdigest(),
        **(zeros | arrays),
    )


def random_walk(n_bars: int, *, assets: int = 1, volatility: float = 0.01, seed: int = 0) -> NDArray[Any]:
    """Return driftless geometric closes (T, A) that start at 100."""
    steps = np.random.default_rng(seed).normal(0.0, volatility, size=(n_bars, assets)) - volatility**2 / 2
    return np.asarray(100.0 * np.exp(np.cumsum(steps, axis=0) - steps[0]))


def _columns(values: ArrayLike, dtype: type = float) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=dtype)
    return np.ascontiguousarray(array[:, None] if array.ndim == 1 else array)


def _clock(n_bars: int, timeframe: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = pd.Timedelta(timeframe.replace("m", "min") if timeframe.endswith("m") else timeframe)
    length_ns = int(length.as_unit("ns").value)
    start_ns = int(pd.Timestamp(START, tz="UTC").as_unit("ns").value)
    timestamp = start_ns + np.arange(n_bars, dtype=np.int64) * length_ns
    return timestamp, timestamp + length_ns
