"""Indicators by their definition, on numbers made by hand."""

import numpy as np
import pytest

from optimize.data.features import indicators
from tests.optimize.data.samples import features_of, random_walk


def test_relative_vigor_is_the_smoothed_body_by_the_smoothed_range() -> None:
    rng = np.random.default_rng(0)
    body, span = rng.integers(-5, 6, 30).astype(float), rng.integers(5, 20, 30).astype(float)
    low = np.full(30, 100.0)
    high, open_ = low + span, low + 5.0
    close = open_ + body
    index, signal = indicators.relative_vigor(open_, high, low, close)

    def smooth(values: list[float]) -> float:
        return (values[3] + 2 * values[2] + 2 * values[1] + values[0]) / 6

    def vigor(row: int) -> float:
        ends = range(row - 9, row + 1)
        top = sum(smooth(list(body[end - 3 : end + 1])) for end in ends)
        return top / sum(smooth(list(span[end - 3 : end + 1])) for end in ends)

    assert np.isnan(index[11])
    assert index[12] == pytest.approx(vigor(12), rel=1e-12)
    assert index[29] == pytest.approx(vigor(29), rel=1e-12)
    assert np.isnan(signal[14])
    assert signal[29] == pytest.approx(smooth([vigor(row) for row in range(26, 30)]), rel=1e-12)


def test_relative_volatility_is_the_share_of_deviation_on_rising_closes() -> None:
    close = random_walk(500, seed=9, volatility=0.01).close[:, 0]
    deviation = np.array([close[row - 9 : row + 1].std() if row >= 9 else np.nan for row in range(500)])
    change = np.diff(close, prepend=close[0])
    up, down = 0.0, 0.0
    for row in range(10, 500):  # Wilder's average, whose seed has faded after 450 bars
        up += ((deviation[row] if change[row] > 0 else 0.0) - up) / 14
        down += ((deviation[row] if change[row] < 0 else 0.0) - down) / 14
    index = indicators.relative_volatility(close)
    assert index[-1] == pytest.approx(100 * up / (up + down), rel=1e-9)


def test_on_balance_volume_is_read_as_a_share_of_the_window_s_volume() -> None:
    bars = random_walk(100)
    values, _, _ = features_of(bars, ["obv"])
    level = indicators.on_balance_volume(bars.close[:, 0], bars.volume[:, 0])
    share = (level[90] - level[70]) / bars.volume[71:91, 0].sum()
    assert values[90, 0, 0] == pytest.approx(share, rel=1e-6)


def test_volume_columns_by_hand() -> None:
    bars = random_walk(300)
    bars.volume[:] = 100.0
    bars.volume[280:, 0] = 100.0 + 10.0 * np.arange(20)
    values, names, _ = features_of(bars, ["volume"])
    mean, ratio, trend = values[299, 0]
    assert names == ("volume_mean", "volume_ratio", "volume_trend")
    assert mean == pytest.approx((195 - 119) / (195 + 119), rel=1e-6)
    assert ratio == pytest.approx((290 - 195) / (290 + 195), rel=1e-6)
    assert trend == pytest.approx(20 * 10 / 195, rel=1e-6)


def test_spread_columns_by_hand() -> None:
    bars = random_walk(600)
    bars.spread[:] = 0.02
    values, names, _ = features_of(bars, ["spread"])
    true_range = indicators.average_true_range(bars.high[:, 0], bars.low[:, 0], bars.close[:, 0])
    assert names == ("spread", "spread_atr")
    np.testing.assert_allclose(values[-1, 0], [0.02 / bars.close[-1, 0], 0.02 / true_range[-1]], rtol=1e-6)


def test_scaled_columns_by_hand() -> None:
    bars = random_walk(600)
    prices = (bars.high[:, 0], bars.low[:, 0], bars.close[:, 0])
    names = [
        "stochastic",
        "williams_r",
        "cci",
        "aroon",
        "directional_movement",
        "sma_ratio",
        "sma",
        "mfi",
        "cmf",
    ]
    values, columns, _ = features_of(bars, names)
    last = dict(zip(columns, values[-1, 0].tolist(), strict=True))
    high, low, close = (series[-14:] for series in prices)
    assert last["williams_r"] == pytest.approx(
        1 - 2 * (high.max() - close[-1]) / (high.max() - low.min()), abs=1e-5
    )
    assert last["stochastic_k"] == pytest.approx(
        indicators.stochastic_oscillator(*prices)[0][-1] / 50 - 1, abs=1e-6
    )
    assert last["cci"] == pytest.approx(indicators.commodity_channel(*prices)[-1] / 100, rel=1e-6)
    assert last["aroon_oscillator"] == pytest.approx(last["aroon_up"] - last["aroon_down"])
    assert last["aroon_up"] == pytest.approx(np.argmax(prices[0][-26:]) / 25)
    plus, minus = indicators.directional_indicators(*prices)
    assert (last["plus_di"], last["minus_di"]) == pytest.approx((plus[-1] / 100, minus[-1] / 100))
    assert last["sma_21"] == pytest.approx(prices[2][-21:].mean(), rel=1e-6)
    assert last["price_to_sma_21"] == pytest.approx(prices[2][-1] / prices[2][-21:].mean() - 1, abs=1e-6)
    assert -1 <= last["cmf"] <= 1
    assert -1 <= last["mfi"] <= 1
