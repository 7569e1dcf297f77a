"""The double of Yahoo's chart service."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tests.optimize.data.sources.clients.doubles import NEW_YORK, Answer, Double, Query


def yahoo(double: Double, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
    """Answer as Yahoo's chart service does; nulls where there is no price."""
    if path == "/":
        return 404, ""
    if path.endswith("getcrumb"):
        return 200, "crumb"
    if "/finance/chart/" not in path:
        return 404, {"finance": {"error": {"code": "Not Found", "description": path}}}
    name = path.rsplit("/", 1)[-1]
    if name not in double.bars:
        said = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        return 404, {"chart": {"result": None, "error": said}}
    end = min(int(query.get("period2", double.now_s)), double.now_s)
    rows = double.bars[name].between(int(query.get("period1", double.now_s - 7 * 86400)), end)
    return 200, {"chart": {"result": [_chart(double, name, query["interval"], rows)], "error": None}}


def _chart(double: Double, name: str, interval: str, rows: list[tuple[int, list[float]]]) -> dict[str, Any]:
    start = [t for t, _ in rows]
    # A daily bar is stamped with the open of its session, which yfinance turns into midnight.
    opening = 34_200 if interval == "1d" else 0
    columns = np.array([row for _, row in rows]).reshape(-1, 5)
    quote = {
        field: [None if np.isnan(value) else value for value in column.tolist()]
        for field, column in zip(("open", "high", "low", "close", "volume"), columns.T, strict=True)
    }
    meta = {
        "currency": "USD",
        "symbol": name,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": NEW_YORK,
        "priceHint": 2,
        "validRanges": ["1d", "5d", "max"],
        "dataGranularity": interval,
    }
    if interval != "1d":
        meta |= {"tradingPeriods": _trading_periods(start)}
    indicators: dict[str, Any] = {"quote": [quote if rows else {}]}
    if interval == "1d":
        indicators |= {"adjclose": [{"adjclose": (columns[:, 3] * double.adjusted).tolist()}]}
    return {"meta": meta, "timestamp": [t + opening for t in start], "indicators": indicators}


def _trading_periods(start: list[int]) -> list[list[dict[str, Any]]]:
    """Return 9:30 to 16:00 of each day that has bars."""
    days = sorted({pd.Timestamp(t, unit="s", tz="UTC").tz_convert(NEW_YORK).normalize() for t in start})
    hours = (pd.Timedelta(hours=9.5), pd.Timedelta(hours=16))
    return [
        [
            {
                "timezone": "EST",
                "gmtoffset": -18000,
                "start": int((day + hours[0]).timestamp()),
                "end": int((day + hours[1]).timestamp()),
            }
        ]
        for day in days
    ]
