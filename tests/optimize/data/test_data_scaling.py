from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from optimize.data.dataset import build_market
from optimize.data.scaling import fit_scaler, load_scaler, scale_market
from optimize.data.spec import DataSpec, FeatureSpec, SessionSpec
from optimize.errors import BadInputError, NumericError

NAMES = ("a", "b", "c")


def features(seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(3.0, [0.1, 1.0, 50.0], size=(400, 2, 3)).astype(np.float32)


def test_the_train_span_is_standardised_per_asset_and_feature() -> None:
    values = features()
    scaled = fit_scaler(values, 100, 300, NAMES).transform(values[100:300])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-5)
    assert scaled.dtype == np.float32


def test_rows_outside_the_train_span_change_nothing() -> None:
    values, other = features(), features()
    other[:100], other[300:] = 1e6, np.nan
    one, two = (fit_scaler(v, 100, 300, NAMES) for v in (values, other))
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.std, two.std)


def test_every_train_row_counts() -> None:
    values, other = features(), features()
    other[299] += 1
    assert (fit_scaler(values, 100, 300, NAMES).mean != fit_scaler(other, 100, 300, NAMES).mean).all()


def test_a_constant_column_becomes_zero_and_outliers_are_clipped() -> None:
    values = features()
    values[:, :, 0] = 0.1
    scaler = fit_scaler(values, 0, 400, NAMES)
    values[7, :, 0], values[7, :, 1] = 5.0, 1e9
    scaled = scaler.transform(values)
    assert (scaled[:, :, 0] == 0).all()
    assert (scaled[7, :, 1] == 10).all()


def test_an_empty_or_undefined_train_span_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"\[300, 300\) holds none"):
        fit_scaler(features(), 300, 300, NAMES)
    values = features()
    values[10] = np.nan
    with pytest.raises(NumericError, match="not finite"):
        fit_scaler(values, 0, 100, NAMES)


def test_a_saved_scaler_comes_back_whole(tmp_path: Path) -> None:
    values = features()
    values[:, :, 0] = 1.0
    scaler = fit_scaler(values, 0, 400, NAMES)
    scaler.save(tmp_path / "scaler.npz")
    loaded = load_scaler(tmp_path / "scaler.npz", NAMES)
    assert loaded.feature_names == NAMES
    np.testing.assert_array_equal(loaded.transform(values), scaler.transform(values))
    assert [path.name for path in tmp_path.iterdir()] == ["scaler.npz"]


def test_other_features_than_those_fitted_are_refused(tmp_path: Path) -> None:
    fit_scaler(features(), 0, 400, NAMES).save(tmp_path / "scaler.npz")
    for names in (("a", "c", "b"), ("a", "b")):
        with pytest.raises(BadInputError, match=r"scaler was fitted on \['a', 'b', 'c'\]"):
            load_scaler(tmp_path / "scaler.npz", names)


def test_a_file_that_is_no_scaler_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "text.npz").write_text("text")
    for name in ("torn.npz", "text.npz", "absent.npz"):
        with pytest.raises(BadInputError, match=f"{name} is no saved scaler"):
            load_scaler(tmp_path / name)


def test_a_market_is_scaled_in_place_of_its_rows_and_nowhere_else() -> None:
    market = build_market(DataSpec(), FeatureSpec(indicators=["returns", "atr"]), SessionSpec())
    scaler = fit_scaler(market.features, 0, 1000, market.feature_names)
    scaled = scale_market(market, scaler, 900, 1200)
    np.testing.assert_array_equal(scaled.features[900:1200], scaler.transform(market.features[900:1200]))
    assert np.isnan(scaled.features[:900]).all()
    assert np.isnan(scaled.features[1200:]).all()
    assert scaled.close is market.close
    with pytest.raises(BadInputError, match="the features of the market are"):
        scale_market(replace(market, feature_names=("atr", "returns")), scaler, 0, 10)
