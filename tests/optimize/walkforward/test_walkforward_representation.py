"""The representation of a window: its columns, its file, and the spec that it must belong to."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from envs.plain import from_plain, to_plain
from optimize.data.cache import cache_key
from optimize.data.features.spec import FeatureSpec
from optimize.data.market import build_market
from optimize.data.scaling import fit_scaler, scale_market
from optimize.errors import BadInputError
from optimize.study.spec import StudySpec, resolve
from optimize.study.trials.reuse import _settings
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window, shared_market
from optimize.walkforward.representation import load_representation
from optimize.walkforward.run import evaluate_window, run_window
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


CHOOSING: list[dict[str, object]] = [
    {"groups": ["price"]},
    {"select": 3},
    {"forecast": "ridge", "horizon": 4},
    {"forecast": "ridge", "forecast_alone": True},
]


@pytest.mark.parametrize("changes", CHOOSING)
def test_a_trained_window_is_evaluated_again_to_the_same_figures(
    spec: StudySpec, changes: dict[str, object], tmp_path: Path
) -> None:
    spec = shown(spec, **changes)
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    model, result, _ = run_window(spec, windowed, window, seed=3)
    model.representation.save(tmp_path / "scaler.npz")
    again = load_representation(tmp_path / "scaler.npz", spec.feature, windowed.market.feature_names)
    assert again.columns == model.representation.columns
    loaded = replace(model, representation=again)
    measured, _ = evaluate_window(spec, windowed, window, loaded, in_sample=True)
    assert measured.metrics == result.metrics
    assert measured.returns.tobytes() == result.returns.tobytes()


@pytest.mark.parametrize("changes", CHOOSING)
def test_choosing_among_columns_changes_no_market_and_no_fingerprint(
    spec: StudySpec, changes: dict[str, object]
) -> None:
    specs = [(each.data, each.feature, each.session) for each in (spec, shown(spec, **changes))]
    assert cache_key(*specs[0]) == cache_key(*specs[1])
    one, two = (build_market(*each) for each in specs)
    assert one.fingerprint == two.fingerprint
    assert one.feature_names == two.feature_names


def test_settings_that_were_stored_before_these_keys_are_read_at_their_defaults(spec: StudySpec) -> None:
    plain = to_plain(spec)
    for key in ("groups", "select", "forecast", "forecast_alone", "horizon"):
        del plain["feature"][key]
    assert from_plain(StudySpec, plain).feature == spec.feature


def test_a_window_that_another_study_trained_is_reused_for_the_same_choices_alone(spec: StudySpec) -> None:
    settings = [_settings(to_plain(each)) for each in (spec, *(shown(spec, **each) for each in CHOOSING))]
    assert all(one != other for one, other in combinations(settings, 2))
    assert _settings(to_plain(shown(spec, select=0))) == settings[0]


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
