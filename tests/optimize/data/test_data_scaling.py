from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.rewards import buy_and_hold_moments
from envs.types import Market
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.scaling import Scaler, fit_scaler, load_scaler, scale_market
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError, NumericError
from tests.envs.environments import make_env, play, with_exits
from tests.markets import make_market, random_walk

NAMES = ("a", "b", "c")


def features(seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(3.0, [0.1, 1.0, 50.0], size=(400, 2, 3)).astype(np.float32)


def market_of(values: NDArray[np.float32], names: tuple[str, ...] = NAMES) -> Market:
    return replace(
        make_market(random_walk(len(values), assets=values.shape[1]), features=values), feature_names=names
    )


def fit(values: NDArray[np.float32], first: int, end: int, names: tuple[str, ...] = NAMES) -> Scaler:
    return fit_scaler(market_of(values, names), first, end)


def test_the_train_span_is_standardised_per_asset_and_feature() -> None:
    values = features()
    scaled = fit(values, 100, 300).transform(values[100:300])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-5)
    assert scaled.dtype == np.float32


def test_rows_outside_the_train_span_change_nothing() -> None:
    values, other = features(), features()
    other[:100], other[300:] = 1e6, np.nan
    one, two = (fit(v, 100, 300) for v in (values, other))
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.std, two.std)


def test_every_train_row_counts() -> None:
    values, other = features(), features()
    other[299] += 1
    assert (fit(values, 100, 300).mean != fit(other, 100, 300).mean).all()


def test_a_constant_column_becomes_zero_and_outliers_are_clipped() -> None:
    values = features()
    values[:, :, 0] = 0.1
    scaler = fit(values, 0, 400)
    values[7, :, 0], values[7, :, 1] = 5.0, 1e9
    scaled = scaler.transform(values)
    assert (scaled[:, :, 0] == 0).all()
    assert (scaled[7, :, 1] == 10).all()


def test_an_empty_or_undefined_train_span_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"\[300, 300\) holds none"):
        fit(features(), 300, 300)
    values = features()
    values[10] = np.nan
    with pytest.raises(NumericError, match="not finite"):
        fit(values, 0, 100)


def test_categories_pass_as_they_are_and_a_regime_is_told_by_the_terciles_of_the_train_span() -> None:
    names = ("weekend", "volatility_regime", "volatility_regime_4h")
    values = np.abs(features())
    values[..., 0] = np.random.default_rng(1).integers(0, 2, (400, 2))
    scaled = fit(values, 0, 300, names).transform(values)
    np.testing.assert_array_equal(scaled[..., 0], values[..., 0])
    for asset in range(2):
        for column in (1, 2):
            low, high = np.quantile(values[:300, asset, column].astype(np.float64), [1 / 3, 2 / 3])
            wanted = np.select(
                [values[:, asset, column] < low, values[:, asset, column] > high], [-1.0, 1.0], 0.0
            )
            np.testing.assert_array_equal(scaled[:, asset, column], wanted)
            assert (
                np.abs([np.mean(scaled[:300, asset, column] == each) - 1 / 3 for each in (-1, 0, 1)]).max()
                < 0.01
            )


def test_a_constant_category_stays_and_a_constant_volatility_is_the_middle_regime() -> None:
    values = np.full((400, 2, 2), 0.25, dtype=np.float32)
    scaled = fit(values, 0, 400, ("session_london", "volatility_regime")).transform(values)
    assert (scaled[..., 0] == 0.25).all()
    assert (scaled[..., 1] == 0).all()


def test_what_comes_after_the_train_span_moves_no_tercile_and_no_moment() -> None:
    values, other = np.abs(features()), np.abs(features())
    other[300:] *= 100
    names = ("volatility_regime", "b", "c")
    one, two = market_of(values, names), market_of(other, names)
    two = replace(two, close=np.where(np.arange(400)[:, None] >= 300, 2 * two.close, two.close))
    first, second = (fit_scaler(each, 100, 300) for each in (one, two))
    np.testing.assert_array_equal(first.edges, second.edges)
    np.testing.assert_array_equal(first.hold_moments, second.hold_moments)
    assert not np.array_equal(fit_scaler(two, 100, 301).hold_moments, second.hold_moments)


def test_a_saved_scaler_comes_back_whole(tmp_path: Path) -> None:
    values = features()
    values[:, :, 0] = 1.0
    names = ("a", "volatility_regime", "weekend")
    scaler = fit(values, 0, 400, names)
    scaler.save(tmp_path / "scaler.npz")
    loaded = load_scaler(tmp_path / "scaler.npz", names)
    assert loaded.feature_names == names
    np.testing.assert_array_equal(loaded.hold_moments, scaler.hold_moments)
    np.testing.assert_array_equal(loaded.transform(values), scaler.transform(values))
    assert [path.name for path in tmp_path.iterdir()] == ["scaler.npz"]


def test_other_features_than_those_fitted_are_refused(tmp_path: Path) -> None:
    fit(features(), 0, 400).save(tmp_path / "scaler.npz")
    for names in (("a", "c", "b"), ("a", "b")):
        with pytest.raises(BadInputError, match=r"scaler was fitted on \['a', 'b', 'c'\]"):
            load_scaler(tmp_path / "scaler.npz", names)


def test_a_file_that_is_no_scaler_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "text.npz").write_text("text")
    for name in ("torn.npz", "text.npz", "absent.npz"):
        with pytest.raises(BadInputError, match=f"{name} is not a saved scaler"):
            load_scaler(tmp_path / name)


def test_a_scaler_of_an_older_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scaler.npz"
    np.savez(path, mean=np.zeros((1, 3)), std=np.ones((1, 3)), feature_names=np.array(NAMES))
    with pytest.raises(
        BadInputError, match=r"older version, without binned, edges, hold_moments: train"
    ) as caught:
        load_scaler(path, NAMES)
    assert "\n" not in str(caught.value)


def test_a_market_is_scaled_in_place_of_its_rows_and_nowhere_else() -> None:
    market = build_market(DataSpec(), FeatureSpec(indicators=["returns", "atr"]), SessionSpec())
    scaler = fit_scaler(market, 0, 1000)
    scaled = scale_market(market, scaler, 900, 1200)
    np.testing.assert_array_equal(scaled.features[900:1200], scaler.transform(market.features[900:1200]))
    assert np.isnan(scaled.features[:900]).all()
    assert np.isnan(scaled.features[1200:]).all()
    assert scaled.close is market.close
    np.testing.assert_array_equal(scaled.hold_moments, buy_and_hold_moments(market, 0, 999))
    with pytest.raises(BadInputError, match="the features of the market are"):
        scale_market(replace(market, feature_names=("atr", "returns")), scaler, 0, 10)


def flat_nights() -> Market:
    """Return ten-bar sessions that gap overnight and end flat, every third without its exit bar."""
    close = random_walk(120, volatility=0.02, seed=3)
    opens = np.vstack([close[:1], close[:-1]]) * np.where(np.arange(120) % 10 == 0, 1.2, 1.001)[:, None]
    ends = range(9, 120, 10)
    late = [bar for number, end in enumerate(ends) if number % 3 for bar in (end - 1, end)]
    return with_exits(make_market(close, open=opens), late, ends)


def test_moments_are_of_what_an_account_that_always_buys_can_hold() -> None:
    market = flat_nights()
    first, last = 14, 97
    steps = play(make_env(market, first=first, last=last), np.ones((last - first, 1)))
    returns = (steps.equity[1:] / steps.equity[:-1] - 1.0)[:-1]  # the last step closes at its open
    own = fit_scaler(market, first + 1, last).hold_moments
    held = [returns.mean(), np.square(returns).mean(), np.square(np.minimum(returns, 0.0)).mean()]
    np.testing.assert_allclose(own, held, rtol=1e-9)
    overnight = with_exits(market, [], [])
    assert not np.allclose(fit_scaler(overnight, first + 1, last).hold_moments, own, rtol=0.1)


def test_several_assets_are_bought_alike_at_the_first_open_after_a_flat_night() -> None:
    close = [[10.0, 10.0], [11.0, 10.0], [12.0, 6.0], [12.0, 6.0], [18.0, 6.0], [18.0, 3.0]]
    opens = [[10.0, 10.0], [10.0, 10.0], [11.0, 10.0], [10.0, 5.0], [12.0, 6.0], [18.0, 3.0]]
    market = with_exits(make_market(close, open=opens), at_open=[2], at_close=[2])
    # held: bought at 10 10, 11 10 and sold at 11 10; bought at 10 5; 18 6, 18 3 at the end
    returns = np.array([0.05, 0.0, 0.2, 1.5 / 1.2 - 1.0, 1.2 / 1.5 - 1.0])
    expected = [returns.mean(), np.square(returns).mean(), np.square(np.minimum(returns, 0.0)).mean()]
    np.testing.assert_allclose(buy_and_hold_moments(market, 0, 5), expected)
