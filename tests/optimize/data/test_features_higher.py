"""Features of higher timeframes: at each bar those of the last coarser bar that has ended."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import check_features
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import load_bars, market_of
from optimize.data.resample import resample
from optimize.data.spec import DataSpec
from optimize.data.timeframes import timeframe_ns
from optimize.errors import BadInputError
from tests.optimize.data.feature_worlds import World, world
from tests.optimize.data.samples import features_of, random_walk, rows_of, table_of
from tests.tiers import mostly_slow

NAMES = ["returns", "range", "bollinger", "stochastic", "zigzag", "time_of_day"]


def hold_causal_and_settled(place: World, names: list[str], higher: list[str], seed: int) -> None:
    """Compare every usable row of random heads and tails with the whole."""
    bars = place.bars
    full, _, first = features_of(bars, names, place.table, higher)
    rng = np.random.default_rng(seed)
    assert first < bars.n_bars // 2
    for end in rng.integers(first + 1, bars.n_bars + 1, 25):
        head, _, _ = features_of(rows_of(bars, slice(0, int(end))), names, place.table, higher)
        np.testing.assert_array_equal(head[first:], full[first:end])
    for start in rng.integers(1, bars.n_bars - 2 * first, 25):
        tail, _, settled = features_of(rows_of(bars, slice(int(start), None)), names, place.table, higher)
        np.testing.assert_allclose(tail[settled:], full[start + settled :], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "names", "higher"),
    [
        ("calm", NAMES[:4], ["4h", "12h"]),
        ("volume_gone", ["obv", "cmf", "returns"], ["2h", "1d"]),
        ("embedded", ["returns", "range", "bollinger"], ["4h", "1d"]),
    ],
)
def test_no_higher_bar_is_seen_before_its_end(place: str, names: list[str], higher: list[str]) -> None:
    hold_causal_and_settled(world(place), names, higher, seed=1)


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("place", "higher"),
    [
        ("btc_outage", ["4h", "1d"]),
        ("fx_winter_time", ["4h", "1d"]),
        ("spy_half_day", ["5m", "15m"]),
    ],
)
def test_no_higher_real_bar_is_seen_before_its_end(place: str, higher: list[str], market_data: Path) -> None:
    hold_causal_and_settled(world(place, market_data), NAMES[:4], higher, seed=2)


@pytest.mark.market_data
def test_late_prints_of_a_half_day_change_nothing_already_seen(market_data: Path) -> None:
    path = market_data / "goog_1m_lean_20151223_28_earlyclose.parquet"
    bars = load_bars(DataSpec(provider="file", path=str(path)))
    hold_causal_and_settled(World(bars, table_of(bars, "XNYS")), ["returns", "range"], ["5m", "1h"], seed=3)


def test_the_columns_are_those_of_the_resampled_bars() -> None:
    bars = random_walk(2000)
    table = table_of(bars, "24/7")
    values, names, first = features_of(bars, ["rsi", "range", "weekend"], table, ["4h"])
    coarse = resample(bars, "4h", table)
    alone, coarse_names, _ = features_of(coarse, ["rsi", "range"], table)
    assert names == ("rsi", "range", "body", "weekend", "rsi_4h", "range_4h", "body_4h")
    assert tuple(f"{name}_4h" for name in coarse_names) == names[4:]
    warm = features_of(bars, ["rsi"], table)[2]
    # warm + 2 coarser bars, the first perhaps partial, and up to three bars of the next one
    assert first == 4 * (warm + 2) + 2
    for row in (first, first + 1, 1877):
        last = np.flatnonzero(coarse.bar_end <= bars.bar_end[row])[-1]
        np.testing.assert_array_equal(values[row, 0, 4:], alone[last, 0])


@pytest.mark.parametrize(
    ("base", "higher", "message"),
    [
        ("4h", "4h", "feature.higher_timeframes='4h' .* coarser than data.timeframe=4h and a multiple"),
        ("4h", "1h", "feature.higher_timeframes='1h' .* coarser than data.timeframe=4h and a multiple"),
        ("4h", "6h", "feature.higher_timeframes='6h' .* coarser than data.timeframe=4h and a multiple"),
    ],
)
def test_a_timeframe_that_is_no_multiple_is_refused(base: str, higher: str, message: str) -> None:
    spec = FeatureSpec(indicators=["returns"], higher_timeframes=[higher])
    with pytest.raises(BadInputError, match=message):
        market_of(random_walk(2000), base, spec, SessionSpec())


def test_indicators_of_time_alone_have_no_higher_timeframe() -> None:
    bars = random_walk(100)
    spec = FeatureSpec(indicators=["time_of_day", "weekend"], higher_timeframes=["4h"])
    with pytest.raises(
        BadInputError, match=r"feature.higher_timeframes=\['4h'\] .* no indicator reads prices"
    ):
        check_features(bars, spec, table_of(bars, "24/7"))


def test_too_few_higher_bars_are_refused_in_one_line() -> None:
    spec = FeatureSpec(indicators=["rsi"], higher_timeframes=["1d"])
    with pytest.raises(
        BadInputError, match=r"=1d: SYNTH has 83 bars at 1d, but feature.indicators need 3\d\d"
    ):
        market_of(random_walk(2000), "1h", spec, SessionSpec())


def test_a_market_starts_where_the_slowest_timeframe_has_settled() -> None:
    spec = FeatureSpec(indicators=["bollinger"], higher_timeframes=["4h"])
    market = market_of(random_walk(500), "1h", spec, SessionSpec())
    assert market.feature_names[-1] == "bollinger_width_4h"
    assert market.n_bars == 500 - (4 * 21 + 2)
    assert np.isfinite(market.features).all()
    plain = market_of(random_walk(500), "1h", FeatureSpec(indicators=["bollinger"]), SessionSpec())
    assert plain.fingerprint != market.fingerprint


def extended_hours() -> World:
    """Return hourly bars from 04:00 to 20:00 New York, four of them after each close."""
    days = pd.bdate_range("2024-04-01", "2024-05-24", tz="America/New_York")
    stamps = [day + pd.Timedelta(hours=hour) for day in days for hour in range(4, 20)]
    walk = random_walk(len(stamps))
    timestamp = pd.DatetimeIndex(stamps).tz_convert("UTC").as_unit("ns").asi8
    bars = replace(walk, timestamp=timestamp, bar_end=timestamp + timeframe_ns("1h"))
    return World(bars, table_of(bars, "XNYS"))


@pytest.mark.parametrize("higher", mostly_slow(["1d", "2h", "4h"], "1d"))
def test_prints_after_the_close_never_move_a_higher_bar_that_is_known(higher: str) -> None:
    place = extended_hours()
    bars, table = place.bars, place.table
    full, _, first = features_of(bars, ["returns"], table, [higher])
    for end in range(first + 2, bars.n_bars):
        seen, _, _ = features_of(rows_of(bars, slice(0, end)), ["returns"], table, [higher])
        np.testing.assert_allclose(seen[-1], full[end - 1], atol=1e-6, err_msg=f"the first {end} bars")


@pytest.mark.parametrize("higher", mostly_slow(["1d", "4h"], "1d"))
def test_a_tail_of_the_warm_up_suffices_from_whatever_bar_it_starts(higher: str) -> None:
    place = extended_hours()
    bars, table = place.bars, place.table
    full, _, first = features_of(bars, ["bollinger"], table, [higher])
    for end in range(first + 1, bars.n_bars + 1):
        tail = rows_of(bars, slice(end - first - 1, end))
        seen, _, settled = features_of(tail, ["bollinger"], table, [higher])
        assert settled <= first
        np.testing.assert_allclose(seen[-1], full[end - 1], atol=1e-6, err_msg=f"the first {end} bars")
