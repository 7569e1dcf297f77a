import numpy as np
import pytest

from optimize.data.bars import Bars, join_bars
from optimize.data.dataset import load_bars
from optimize.data.features import FEATURES, compute, warmup_bars
from optimize.data.spec import DEFAULT_INDICATORS, DataSpec
from optimize.errors import BadInputError, NumericError
from tests.optimize.data.samples import bars_at, random_walk, rows_of, stamps

LAST_ROWS = 40  # ends at which a feature is recomputed


def worlds() -> dict[str, Bars]:
    """Return a calm walk, one that turns calm after a storm, and the embedded prices."""
    storm = random_walk(1500, seed=3, volatility=0.2)
    calm = random_walk(1500, seed=4, volatility=0.0005)
    scale = storm.close[699] / calm.close[699]
    mixed = {
        name: np.concatenate([getattr(storm, name)[:700], scale * getattr(calm, name)[700:]])
        for name in ("open", "high", "low", "close")
    }
    changed = Bars(
        storm.symbols,
        "1h",
        storm.timestamp,
        storm.bar_end,
        **mixed,
        volume=storm.volume,
        tradable=storm.tradable,
    )
    return {"calm": random_walk(1500), "after_a_storm": changed, "embedded": load_bars(DataSpec())}


WORLDS = worlds()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_reads_no_later_bar(name: str, world: str) -> None:
    bars = WORLDS[world]
    full, _, warmup = compute(bars, [name])
    for end in np.random.default_rng(1).integers(warmup + 1, bars.n_bars, LAST_ROWS):
        part, _, _ = compute(rows_of(bars, slice(0, int(end))), [name])
        np.testing.assert_array_equal(part[end - 1], full[end - 1])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", FEATURES)
def test_a_tail_of_the_warmup_gives_the_same_value(name: str, world: str) -> None:
    bars = WORLDS[world]
    full, _, warmup = compute(bars, [name])
    ends = [*np.random.default_rng(2).integers(warmup + 1, bars.n_bars, LAST_ROWS), 700 + warmup + 1]
    for end in ends:
        tail, _, _ = compute(rows_of(bars, slice(int(end) - warmup - 1, int(end))), [name])
        np.testing.assert_allclose(tail[-1], full[end - 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_has_no_unit_of_price(name: str) -> None:
    bars = random_walk(600)
    prices = {field: 1000.0 * getattr(bars, field) for field in ("open", "high", "low", "close")}
    dear = Bars(
        bars.symbols, "1h", bars.timestamp, bars.bar_end, **prices, volume=bars.volume, tradable=bars.tradable
    )
    warmup = warmup_bars([name])
    np.testing.assert_allclose(
        compute(dear, [name])[0][warmup:], compute(bars, [name])[0][warmup:], atol=1e-6
    )


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_needs_no_volume_and_stands_a_market_that_does_not_move(name: str) -> None:
    bars = random_walk(600)
    flat = np.full_like(bars.close, 1.25)
    still = Bars(
        bars.symbols,
        "1h",
        bars.timestamp,
        bars.bar_end,
        flat,
        flat,
        flat,
        flat,
        np.zeros_like(flat),
        bars.tradable,
    )
    assert np.isfinite(compute(still, [name])[0][warmup_bars([name]) :]).all()


def column(bars: Bars, indicator: str, name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    features, names, _ = compute(bars, [indicator])
    values: np.ndarray[tuple[int], np.dtype[np.float32]] = features[:, 0, names.index(name)]
    return values


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
    rising = Bars(
        bars.symbols,
        "1h",
        bars.timestamp,
        bars.bar_end,
        open_,
        close,
        open_,
        close,
        bars.volume,
        bars.tradable,
    )
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
    both = join_bars([one, Bars(("TWO",), *(getattr(two, name) for name in Bars.__slots__[1:]))])
    features, names, warmup = compute(both, DEFAULT_INDICATORS)
    assert features.shape == (600, 2, len(names))
    assert features.dtype == np.float32
    assert names[:4] == ("returns", "range", "body", "rsi")
    assert warmup == max(FEATURES[name].warmup for name in DEFAULT_INDICATORS)
    np.testing.assert_array_equal(features[warmup:, 1], compute(two, DEFAULT_INDICATORS)[0][warmup:, 0])
    assert np.isfinite(features[warmup:]).all()


def test_unknown_and_repeated_names_are_refused_with_the_choices() -> None:
    bars = random_walk(100)
    with pytest.raises(BadInputError, match=r"feature.indicators='rsj' .* one of returns, range, rsi, macd"):
        compute(bars, ["returns", "rsj"])
    with pytest.raises(BadInputError, match="without repeats"):
        compute(bars, ["returns", "returns"])


def test_a_value_that_is_not_finite_is_named() -> None:
    bars = random_walk(100)
    bars.close[50] = np.nan
    with pytest.raises(NumericError, match=r"feature returns of SYNTH is not finite at 2022-01-03T02:00:00Z"):
        compute(bars, ["returns"])
