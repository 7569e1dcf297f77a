"""The representation of a window: its columns, its file, and the spec that it must belong to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.data.features.spec import FeatureSpec
from optimize.data.scaling import fit_scaler, scale_market
from optimize.errors import BadInputError
from optimize.study.spec import StudySpec, resolve
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window, shared_market
from optimize.walkforward.representation import load_representation
from tests.optimize.study.studies import small_spec


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    return resolve(replace(small_spec(tmp_path), feature=FeatureSpec(lookback=2)))


def shown(spec: StudySpec, **changes: object) -> StudySpec:
    feature: FeatureSpec = replace(spec.feature, **changes)  # type: ignore[arg-type]
    return replace(spec, feature=feature)


def test_without_groups_an_agent_sees_all_columns_as_the_scaler_alone_gives_them(spec: StudySpec) -> None:
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[1]
    found, market = fit_to_window(spec, windowed, window)
    scaler = fit_scaler(windowed.market, window.train_first, window.train_last + 1)
    expected = scale_market(windowed.market, scaler, window.train_first - 1, window.test_last + 1)
    np.testing.assert_array_equal(market.features, expected.features)
    assert found.columns == market.feature_names == windowed.market.feature_names


def test_groups_choose_among_the_same_numbers(spec: StudySpec) -> None:
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    whole = fit_to_window(spec, windowed, window)[1]
    found, market = fit_to_window(shown(spec, groups=["price", "volatility"]), windowed, window)
    assert found.columns == market.feature_names
    assert found.columns == (
        "returns",
        "range",
        "body",
        "bollinger_position",
        "bollinger_width",
        "atr",
        "volatility",
    )
    places = [whole.feature_names.index(name) for name in found.columns]
    np.testing.assert_array_equal(market.features, whole.features[..., places])


def test_specs_that_differ_in_groups_share_one_market_but_no_fit(spec: StudySpec) -> None:
    markets: dict[str, WindowedMarket] = {}
    one = shared_market(spec, markets, None)
    other = shown(spec, groups=["time"])
    assert shared_market(other, markets, None) is one
    window = one.windows[0]
    assert fit_to_window(spec, one, window)[0] is fit_to_window(spec, one, window)[0]
    assert fit_to_window(other, one, window)[0].columns != fit_to_window(spec, one, window)[0].columns


def test_a_saved_fit_is_read_for_its_own_groups_alone(spec: StudySpec, tmp_path: Path) -> None:
    windowed = build_windowed_market(spec, None)
    grouped = shown(spec, groups=["price"])
    found, market = fit_to_window(grouped, windowed, windowed.windows[0])
    found.save(tmp_path / "scaler.npz")
    names = windowed.market.feature_names
    again = load_representation(tmp_path / "scaler.npz", grouped.feature, names)
    np.testing.assert_array_equal(
        again.observe(windowed.market, 10, 500).features[10:500], market.features[10:500]
    )
    with pytest.raises(BadInputError, match="use the feature settings of its training"):
        load_representation(tmp_path / "scaler.npz", spec.feature, names)
