"""Indicators against the golden values of reference/indicators, and those we wrote against TA-Lib."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import talib

from envs.types import FloatArray
from optimize.data.features import indicators

pytestmark = pytest.mark.market_data

SEEDED = {  # TA-Lib seeds these averages otherwise: the bars after which no difference above 1e-9 is left
    "pdi": 300,
    "mdi": 300,
    "adx": 350,
    "macd": 160,
    "signal": 160,
}
TIES = {"aroonUp": 1, "aroonDown": 1, "oscillator": 2}  # bars of a tie, where TA-Lib takes the newer extreme


@cache
def quotes(folder: Path) -> dict[str, FloatArray]:
    """Return the series of the reference bars."""
    with (folder / "skender_default_quotes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "date"}


def expected(folder: Path, file: str, field: str) -> FloatArray:
    rows = json.loads((folder / f"skender_{file}.json").read_text())
    return np.array([np.nan if row[field] is None else row[field] for row in rows], dtype=np.float64)


def ours(folder: Path, field: str) -> FloatArray:
    """Return our raw indicator for a field of the reference."""
    given = quotes(folder)
    high, low, close, volume = (given[name] for name in ("high", "low", "close", "volume"))
    k, d = indicators.stochastic_oscillator(high, low, close)
    middle, half = indicators.bollinger_bands(close)
    plus, minus = indicators.directional_indicators(high, low, close)
    line, signal = indicators.moving_averages_gap(close)
    up, down, oscillator = indicators.aroon_lines(high, low)
    return {
        "rsi": indicators.relative_strength(close),
        "k": k,
        "d": d,
        "williamsR": indicators.williams_percent_range(high, low, close),
        "mfi": indicators.money_flow_index(high, low, close, volume),
        "sma": middle,
        "upperBand": middle + half,
        "lowerBand": middle - half,
        "atr": indicators.average_true_range(high, low, close),
        "cmf": indicators.chaikin_money_flow(high, low, close, volume),
        "cci": indicators.commodity_channel(high, low, close),
        "obv": indicators.on_balance_volume(close, volume),
        "pdi": plus,
        "mdi": minus,
        "adx": indicators.average_directional_index(high, low, close),
        "macd": line,
        "signal": signal,
        "aroonUp": up,
        "aroonDown": down,
        "oscillator": oscillator,
    }[field]


@pytest.mark.parametrize(
    ("file", "field", "tolerance"),
    [
        ("rsi", "rsi", 5e-12),
        ("stoch", "k", 5e-12),
        ("stoch", "d", 5e-12),
        ("willr", "williamsR", 5e-12),
        ("mfi", "mfi", 5e-12),
        ("bb", "sma", 5e-12),
        ("bb", "upperBand", 5e-12),
        ("bb", "lowerBand", 5e-12),
        ("atr", "atr", 5e-12),
        ("cmf", "cmf", 5e-12),
        ("cci", "cci", 5e-12),
        ("obv", "obv", 0.0),
        ("adx", "pdi", 1e-9),
        ("adx", "mdi", 1e-9),
        ("adx", "adx", 1e-9),
        ("macd", "macd", 1e-9),
        ("macd", "signal", 1e-9),
    ],
)
def test_an_indicator_equals_the_reference(
    file: str, field: str, tolerance: float, market_data: Path
) -> None:
    folder = market_data.parent / "reference" / "indicators"
    wanted, found = expected(folder, file, field), ours(folder, field)
    first = SEEDED.get(field, 0)
    both = np.isfinite(wanted) & np.isfinite(found)
    assert both.sum() > 460
    assert both[first:].sum() > 150
    error = np.abs(found - wanted) / np.maximum(np.abs(wanted), 1.0)  # of the value, or of 1 if that is more
    assert error[first:][both[first:]].max() <= tolerance


@pytest.mark.parametrize("field", TIES)
def test_aroon_equals_the_reference_but_on_ties(field: str, market_data: Path) -> None:
    folder = market_data.parent / "reference" / "indicators"
    wanted, found = expected(folder, "aroon", field), ours(folder, field)
    given, period = quotes(folder), indicators.AROON_PERIOD
    differ = [row for row in np.flatnonzero(np.abs(found - wanted) > 1e-9)]
    assert len(differ) == TIES[field]
    for row in differ:
        highs = given["high"][row - period : row + 1]
        lows = given["low"][row - period : row + 1]
        assert (highs == highs.max()).sum() > 1 or (lows == lows.min()).sum() > 1


def test_what_we_wrote_equals_talib(market_data: Path) -> None:
    given = quotes(market_data.parent / "reference" / "indicators")
    prices = (given["high"], given["low"], given["close"])
    for found, wanted in (
        (indicators.money_flow_index(*prices, given["volume"]), talib.MFI(*prices, given["volume"], 14)),
        (indicators.chaikin_money_flow(*prices, given["volume"]), talib.CMF(*prices, given["volume"], 20)),
        (indicators.simple_average(given["close"], 21), talib.SMA(given["close"], 21)),
        (indicators.bollinger_bands(given["close"])[0], talib.BBANDS(given["close"], 20)[1]),
    ):
        np.testing.assert_allclose(found[20:], wanted[20:], rtol=0, atol=5e-12)
