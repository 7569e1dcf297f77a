from pathlib import Path

import numpy as np
import pytest

from envs.types import Market
from optimize.data.bars import bars_fingerprint
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import compute_features
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market, load_bars, market_of, summarise_bars
from optimize.data.sessions import session_table
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError
from tests.optimize.data.samples import bars_at, random_walk, rows_of, stamps

FEATURE, SESSION = FeatureSpec(), SessionSpec()
LIGHT = FeatureSpec(indicators=["returns", "bollinger"])


def embedded(timeframe: str, feature: FeatureSpec = FEATURE) -> Market:
    return build_market(DataSpec(timeframe=timeframe), feature, SESSION)


@pytest.mark.parametrize("timeframe", ["1h", "2h", "4h", "6h"])
def test_a_market_is_whole(timeframe: str) -> None:
    market = embedded(timeframe)
    count, fields = market.n_bars, len(market.feature_names)
    assert market.features.shape == (count, 1, fields)
    assert np.isfinite(market.features).all()
    assert market.timeframe == timeframe
    for array in (market.open, market.high, market.low, market.close, market.tradable):
        assert array.shape == (count, 1)
    assert (np.diff(market.bar_end) > 0).all()
    assert (np.diff(market.session) >= 0).all()
    assert 0 <= market.session[0] <= market.session[-1] < len(market.session_date)
    assert market.sessions_per_year == 260.0


def test_prices_and_features_are_trimmed_alike() -> None:
    bars = load_bars(DataSpec())
    table = session_table("24/5", int(bars.bar_end[0]), int(bars.bar_end[-1]))
    features, _, warmup = compute_features(bars, LIGHT, table)
    market = embedded("1h", LIGHT)
    assert market.n_bars == bars.n_bars - warmup
    np.testing.assert_array_equal(market.close, bars.close[warmup:])
    np.testing.assert_array_equal(market.timestamp, bars.timestamp[warmup:])
    np.testing.assert_array_equal(market.features, features[warmup:])


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XNYS"])
def test_test_dates_do_not_move_with_the_timeframe(calendar: str) -> None:
    source = random_walk(24 * 200) if calendar == "24/7" else load_bars(DataSpec())
    # An FX source that begins with a session's last hour: the first 4h bar ends in the session after it.
    source = rows_of(source, slice(23 if calendar == "24/5" else 0, None))
    session = SessionSpec(calendar=calendar, flat_overnight=False)  # else 12h and 1d are refused on XNYS
    markets = [market_of(source, timeframe, LIGHT, session) for timeframe in ("1h", "2h", "4h", "12h", "1d")]
    for market in markets[1:]:
        np.testing.assert_array_equal(market.session_date, markets[0].session_date)
        assert market.sessions_per_year == markets[0].sessions_per_year
    table = session_table(calendar, int(source.bar_end[0]), int(source.bar_end[-1]))
    for market in markets:  # trimming leaves the ordinal of a bar: the day in which it ends
        day = market.session_date[market.session]
        ends = table.day_of(market.timestamp, market.bar_end, market.timeframe)
        np.testing.assert_array_equal(day, table.date[np.searchsorted(table.date, ends)])


def test_the_fingerprint_follows_data_timeframe_features_and_calendar() -> None:
    base = embedded("1h")
    assert embedded("1h").fingerprint == base.fingerprint
    assert embedded("1h", FeatureSpec(lookback=32)).fingerprint == base.fingerprint
    others = [
        embedded("2h"),
        embedded("1h", LIGHT),
        build_market(DataSpec(), FEATURE, SessionSpec(calendar="24/7")),
        build_market(DataSpec(provider="synthetic"), FEATURE, SESSION),
        build_market(DataSpec(provider="synthetic", synthetic=SyntheticSpec(seed=1)), FEATURE, SESSION),
    ]
    assert len({base.fingerprint, *(market.fingerprint for market in others)}) == 6


def test_too_few_bars_for_warmup_and_lookback_are_refused() -> None:
    with pytest.raises(
        BadInputError,
        match=r"EURUSD has 2\d\d bars at data.timeframe=1d, .* need 3\d\d to settle and feature.lookback 8: ",
    ):
        embedded("1d")


def test_arrays_of_a_market_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        embedded("1h", LIGHT).close[0] = 0


def test_the_summary_counts_holes_in_open_time() -> None:
    hours = stamps("2024-01-01", 24 * 30, "1h")
    bars = bars_at(np.delete(hours, [100, 101, 300]), "1h")
    bars.volume[:71] = 0
    summary = summarise_bars(bars, SESSION)
    assert (summary.rows, summary.gaps, summary.missing_bars, summary.longest_gap_hours) == (717, 2, 3, 2.0)
    assert (summary.first, summary.last) == ("2024-01-01T00:00:00Z", "2024-01-30T23:00:00Z")
    assert (summary.calendar, summary.sessions, summary.empty_sessions) == ("24/7", 30, 0)
    assert summary.zero_volume_share[0] == pytest.approx(71 / 717)
    assert summary.fingerprint == bars_fingerprint(bars)


def test_nights_weekends_and_holidays_are_no_holes() -> None:
    open_hours = np.concatenate([stamps(f"2024-01-{day:02d}T14:30", 6, "1h") for day in (11, 12, 16, 17)])
    halves = np.concatenate([open_hours, open_hours + 1800 * 10**9, open_hours[5::6] + 3600 * 10**9])
    bars = bars_at(np.sort(halves), "30m")
    summary = summarise_bars(bars, SESSION)
    assert (summary.calendar, summary.gaps, summary.sessions, summary.empty_sessions) == ("XNYS", 0, 4, 0)
    holed = summarise_bars(rows_of(bars, np.arange(bars.n_bars) // 13 != 2), SESSION)
    assert (holed.gaps, holed.missing_bars, holed.longest_gap_hours, holed.empty_sessions) == (1, 13, 6.5, 1)


@pytest.mark.market_data
def test_the_outages_of_a_real_exchange_are_counted(market_data: Path) -> None:
    path = str(market_data / "btcusdt_1h_binance_2017_2024.parquet")
    summary = summarise_bars(load_bars(DataSpec(provider="file", path=path)), SESSION)
    assert (summary.gaps, summary.longest_gap_hours) == (28, 33.0)
