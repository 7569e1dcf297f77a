"""Clean series to plant defects in, and the report on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimize.data.calendars.spec import SessionSpec
from optimize.data.quality.report import QualityReport, inspect_bars
from optimize.data.spec import DataSpec

Plant = Callable[[pd.DataFrame], pd.DataFrame]
PRICES = ["open", "high", "low", "close"]


def ohlcv(stamps: pd.DatetimeIndex, seed: int = 0, volatility: float = 0.004) -> pd.DataFrame:
    """Return a clean random series at stamps."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, len(stamps))))
    gap = np.exp(np.random.default_rng(seed + 1).normal(0, volatility / 100, len(stamps)))
    open_ = np.concatenate([[100.0], close[:-1]]) * gap
    wick = np.exp(np.abs(rng.normal(0, volatility / 2, (2, len(stamps)))))
    high, low = np.maximum(open_, close) * wick[0], np.minimum(open_, close) / wick[1]
    volume = rng.lognormal(5, 0.4, len(stamps))
    prices = {"open": open_, "high": high, "low": low, "close": close}
    return pd.DataFrame({"timestamp": stamps, **prices, "volume": volume})


def hours() -> pd.DataFrame:
    return ohlcv(pd.date_range("2024-01-01", periods=24 * 60, freq="h", tz="UTC"))


def new_york(minutes: int = 30, zone: str = "UTC", until: str = "2024-04-30") -> pd.DataFrame:
    """Return bars of the regular session, holidays left out, stamped in zone and then taken for UTC."""
    days = pd.bdate_range("2024-01-02", until).difference(
        pd.DatetimeIndex(["2024-01-15", "2024-02-19", "2024-03-29"])
    )
    opens = (days + pd.Timedelta("9h30min")).tz_localize("America/New_York").tz_convert(zone)
    stamps = [start + pd.Timedelta(minutes=step) for start in opens for step in range(0, 390, minutes)]
    return ohlcv(pd.DatetimeIndex(stamps).tz_localize(None).tz_localize("UTC"), volatility=0.001)


def report_of(frame: pd.DataFrame, folder: Path, session: str = "auto", **settings: Any) -> QualityReport:
    path = folder / "x.parquet"
    frame.to_parquet(path)
    spec = DataSpec(provider="file", path=str(path), **settings)
    return inspect_bars(spec, SessionSpec(calendar=session))


def counts(report: QualityReport) -> dict[str, int]:
    return {each.check: each.count for each in report.findings}


def split(row: int, ratio: float) -> Plant:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row:, PRICES] /= ratio
        frame.loc[row:, "volume"] *= ratio
        return frame

    return plant
