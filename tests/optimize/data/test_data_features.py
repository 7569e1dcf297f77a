from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from optimize.data.bars import Bars, join_bars
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import FEATURES, check_features, columns_of, kind_of, warmup_bars
from optimize.data.features.spec import DEFAULT_INDICATORS, FeatureSpec
from optimize.data.market import market_of
from optimize.errors import BadInputError, NumericError
from tests.optimize.data.samples import bars_at, features_of, random_walk, stamps, table_of, with_spread

PRICES = ("open", "high", "low", "close")
ZIGZAG_PCT = FeatureSpec().zigzag_pct
SCALE_FREE = [name for name, feature in FEATURES.items() if feature.kind != "level"]
TRADED = "XNYS"  # a calendar that closes, for the features that need one


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("priced", [True, False])
def test_a_feature_has_no_unit_of_price_or_volume(name: str, priced: bool) -> None:
    bars = with_spread(random_walk(600))
    scaled = (*PRICES, "spread") if priced else ("volume",)
    dearer: dict[str, Any] = {field: 1000.0 * getattr(bars, field) for field in scaled}
    dear = replace(bars, **dearer)
    warmup = warmup_bars(FeatureSpec(indicators=[name]))
    one, other = (features_of(each, [name], TRADED)[0][warmup:] for each in (bars, dear))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("price", [1.25, 1.1, 1e-7, 60_000.1])
def test_a_feature_stands_a_market_that_does_not_move(name: str, price: float) -> None:
    bars = random_walk(600)
    flat = np.full_like(bars.close, price)
    still = replace(bars, open=flat, high=flat, low=flat, close=flat)
    values, _, warmup = features_of(still, [name], TRADED)
    assert np.isfinite(values[warmup:]).all()
    if FEATURES[name].kind != "level" and not FEATURES[name].clock:
        assert np.abs(values[warmup:]).max() < 10  # volume moves, and nothing is made up of rounding


@pytest.mark.parametrize("name", [name for name in FEATURES if "volume" in FEATURES[name].needs])
def test_volume_features_are_neutral_where_volume_pauses(name: str) -> None:
    bars = random_walk(600)
    bars.volume[200:450] = 0.0
    values, _, _ = features_of(bars, [name])
    silent = values[200 + FEATURES[name].warmup : 450, 0]
    assert np.isfinite(values[FEATURES[name].warmup :]).all()
    if name != "ohlcv":
        assert (silent == 0).all()


def test_columns_are_named_once_and_kinds_are_found() -> None:
    columns = [column for name in FEATURES for column in columns_of(name, ZIGZAG_PCT)]
    assert len(set(columns)) == len(columns)
    assert columns_of("zigzag", [1.5, 3])[:3] == (
        "zigzag_direction_1.5",
        "zigzag_distance_1.5",
        "zigzag_age_1.5",
    )
    assert kind_of("volatility_regime") == kind_of("volatility_regime_4h") == "binned"
    assert kind_of("weekend") == kind_of("session_tokyo") == "category"
    assert kind_of("close") == "level"
    assert kind_of("zigzag_age_1.5_1d") == kind_of("feature_0") == "numeric"


@pytest.mark.parametrize(
    ("lacking", "what", "timeframe", "calendar", "names"),
    [
        ("volume", "SYNTH has no volume: .* use data with volume", "1h", "24/7", "mfi, obv"),
        ("spread", "SYNTH has no spread: .* a spread column", "1h", "24/7", "spread"),
        ("", "a market on calendar 24/7 has no closing time", "1h", "24/7", "minutes_to_close"),
        ("", "data.timeframe=1d has no intraday", "1d", "XNYS", "session_flags, minutes_to_close"),
    ],
)
def test_what_the_data_cannot_serve_is_refused_by_name(
    lacking: str, what: str, timeframe: str, calendar: str, names: str
) -> None:
    bars = replace(with_spread(random_walk(100)), timeframe=timeframe)
    for name in {lacking} & {"volume", "spread"}:
        getattr(bars, name)[:] = 0.0
    spec = FeatureSpec(indicators=["rsi", *names.split(", ")])
    with pytest.raises(BadInputError, match=rf"feature.indicators: {names} cannot be computed, for {what}"):
        check_features(bars, spec, table_of(bars, calendar))


def test_one_silent_symbol_of_two_is_named_before_anything_is_computed() -> None:
    one, two = random_walk(600, seed=1), random_walk(600, seed=2)
    two = replace(two, symbols=("TWO",), volume=np.zeros_like(two.volume))
    with pytest.raises(BadInputError, match=r"cmf cannot be computed, for TWO has no volume"):
        market_of(join_bars([one, two]), "1h", FeatureSpec(indicators=["cmf"]), SessionSpec())


def column(bars: Bars, indicator: str, name: str) -> NDArray[np.float32]:
    features, names, _ = features_of(bars, [indicator])
    return features[:, 0, names.index(name)]


def test_values_known_by_hand() -> None:
    bars = random_walk(500)
    close = bars.close[:, 0]
    assert column(bars, "returns", "returns")[7] == pytest.approx(np.log(close[7] / close[6]), rel=1e-5)
    assert column(bars, "range", "body")[7] == pytest.approx(np.log(close[7] / bars.open[7, 0]), rel=1e-5)
    window = close[81:101]
    position = (close[100] - window.mean()) / (2 * window.std())
    assert column(bars, "bollinger", "bollinger_position")[100] == pytest.approx(position, rel=1e-5)
    spread = np.diff(np.log(close[80:101])).std()
    assert column(bars, "volatility", "volatility")[100] == pytest.approx(spread, rel=1e-5)


def test_a_market_that_only_rises_is_at_the_end_of_every_scale() -> None:
    bars = random_walk(600)
    step = 0.5 * np.arange(600.0)[:, None]
    close, open_ = 100.0 + step, 99.5 + step
    rising = replace(bars, open=open_, high=close, low=open_, close=close)
    assert column(rising, "rsi", "rsi")[-1] == pytest.approx(1.0)
    assert column(rising, "adx", "adx")[-1] == pytest.approx(1.0)
    assert column(rising, "adx", "directional_index")[-1] == pytest.approx(1.0)
    assert column(rising, "atr", "atr")[-1] == pytest.approx(0.5 / close[-1, 0], rel=1e-5)
    lag = 0.5 * ((26 - 1) / 2 - (12 - 1) / 2)  # an EMA of n bars lags a line by (n - 1) / 2 bars
    assert column(rising, "macd", "macd")[-1] == pytest.approx(lag / close[-1, 0], rel=1e-4)


def test_time_features_are_those_of_the_bar_s_end() -> None:
    bars = bars_at(stamps("2024-01-01T05:00", 3, "1h"), "1h")
    assert column(bars, "time_of_day", "time_of_day_sin")[0] == pytest.approx(1.0)  # the bar ends at 06:00
    assert column(bars, "time_of_day", "time_of_day_cos")[0] == pytest.approx(0.0, abs=1e-6)
    week = bars_at(stamps("2024-01-01T05:00", 200, "1h"), "1h")
    values = column(week, "time_of_week", "time_of_week_sin")
    assert values[0] == pytest.approx(values[168], abs=1e-6)
    assert len(np.unique(values[:24])) == 24


def test_all_features_of_all_assets_are_stacked_in_order() -> None:
    one, two = random_walk(600, seed=1), random_walk(600, seed=2)
    both = join_bars([one, replace(two, symbols=("TWO",))])
    features, names, warmup = features_of(both, DEFAULT_INDICATORS)
    assert features.shape == (600, 2, len(names))
    assert features.dtype == np.float32
    assert names[:4] == ("returns", "range", "body", "rsi")
    assert warmup == max(FEATURES[name].warmup for name in DEFAULT_INDICATORS)
    np.testing.assert_array_equal(features[warmup:, 1], features_of(two, DEFAULT_INDICATORS)[0][warmup:, 0])
    assert np.isfinite(features[warmup:]).all()


def test_unknown_and_repeated_names_are_refused_with_the_choices() -> None:
    bars = random_walk(100)
    with pytest.raises(BadInputError, match=r"feature.indicators='rsj' .* one of adx, aroon, atr, bollinger"):
        features_of(bars, ["returns", "rsj"])
    with pytest.raises(BadInputError, match="without repeats"):
        features_of(bars, ["returns", "returns"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"higher_timeframes": ["36h"]}, "feature.higher_timeframes='36h' .* up to a day, such as 1m, 5m"),
        ({"higher_timeframes": ["4h", "4h"]}, "a list without repeats"),
        ({"zigzag_pct": []}, "feature.zigzag_pct"),
        ({"zigzag_pct": [1.5, -2.0]}, "between 0 and 100"),
        ({"zigzag_pct": [2.0, 2.0]}, "distinct"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, list[object]], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        FeatureSpec(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_a_value_that_is_not_finite_is_named() -> None:
    bars = random_walk(100)
    bars.close[50] = np.nan
    with pytest.raises(NumericError, match=r"feature returns of SYNTH is not finite at 2022-01-03T02:00:00Z"):
        features_of(bars, ["returns"])
