"""Spikes that come back and splits of any ratio: found where planted, and none on real markets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.types import FloatArray
from optimize.data.quality.prices import spike_rows
from tests.optimize.data.quality.qualities import PRICES, counts, hours, ohlcv, report_of, split


def days(volatility: float = 0.015) -> pd.DataFrame:
    return ohlcv(pd.bdate_range("2017-01-02", "2018-12-31", tz="UTC"), volatility=volatility)


@pytest.mark.parametrize("row", [1, 5, 700, 1435, 1438])
@pytest.mark.parametrize(
    ("columns", "factor"),
    [(PRICES, 1e-4), (["high"], 100.0), (["low"], 0.01), (PRICES, 1.5), (["high"], 1.3)],
)
def test_a_spike_that_comes_back_is_found_and_is_no_split(
    tmp_path: Path, row: int, columns: list[str], factor: float
) -> None:
    frame = hours()
    frame.loc[row, columns] *= factor
    found = counts(report_of(frame, tmp_path))
    assert found["spike"] == 1
    assert "split" not in found


def test_an_hour_at_a_cent_is_found_and_named(tmp_path: Path) -> None:
    frame = hours()
    frame.loc[700:703, PRICES] = 0.01
    (finding,) = [each for each in report_of(frame, tmp_path).findings if each.check == "spike"]
    assert (finding.count, finding.severity) == (4, "refuse")
    assert "open 0.01 near" in finding.found


@pytest.mark.parametrize("ratio", [12.0, 1 / 35, 60.0, 1 / 12, 3.3, 9.0, 1 / 80])
@pytest.mark.parametrize("row", [100, 300, 518])
def test_a_jump_beyond_three_that_stays_is_a_split_of_any_ratio(
    tmp_path: Path, ratio: float, row: int
) -> None:
    found = counts(report_of(split(row, ratio)(days()), tmp_path, "24/5", timeframe="1d"))
    assert found["split"] == 1
    assert "spike" not in found


def test_a_crash_that_stays_is_no_spike(tmp_path: Path) -> None:
    frame = days()
    frame.loc[300:, PRICES] *= 0.4
    frame["volume"] = frame["volume"].where(frame.index != 300, 20 * frame["volume"])
    found = counts(report_of(frame, tmp_path, "24/5", timeframe="1d"))
    assert {"spike", "split"} & found.keys() == set()


@pytest.mark.parametrize("volatility", [0.0005, 0.004, 0.02, 0.05])
def test_random_walks_have_no_spikes(volatility: float) -> None:
    for seed in range(10):
        frame = ohlcv(pd.date_range("2024-01-01", periods=2000, freq="h"), seed=seed, volatility=volatility)
        assert not spike_rows(frame[PRICES].to_numpy()).any()


def planted(prices: FloatArray, factor: float) -> float:
    """Return the share of 100 rows at which a high times factor is found."""
    rows = np.linspace(1, len(prices) - 2, 100).astype(int)
    hits = 0
    for row in rows:
        spiked = prices.copy()
        spiked[row, 1] *= factor
        hits += bool(spike_rows(spiked)[row])
    return hits / len(rows)


@pytest.mark.market_data
def test_no_real_market_has_a_spike_and_planted_ones_are_found(market_data: Path) -> None:
    for path in sorted(market_data.rglob("*.parquet")):
        prices = pd.read_parquet(path)[PRICES].dropna().to_numpy()
        assert not spike_rows(prices).any(), path
        assert planted(prices[-3000:], 10.0) == 1.0, path
