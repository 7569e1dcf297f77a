"""Groups of columns: every feature is in one, and feature.groups chooses columns by them."""

from dataclasses import replace

import pytest

from envs.types import FloatArray
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import (
    FEATURES,
    AssetBars,
    check_groups,
    column_groups,
    columns_in_groups,
    feature,
)
from optimize.data.features.spec import GROUPS, FeatureSpec
from optimize.data.market import build_market
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.errors import BadInputError

MIXED = FeatureSpec(indicators=["returns", "rsi", "time_of_day", "zigzag"], zigzag_pct=[2.0, 3.0])


def test_each_feature_of_ours_names_a_group_other_than_the_default_one() -> None:
    ours = {name: each for name, each in FEATURES.items() if each.compute.__module__.startswith("optimize.")}
    assert {each.group for each in ours.values()} == set(GROUPS) - {"custom"}
    clocks = {name for name, each in ours.items() if each.clock}
    assert {name for name, each in ours.items() if each.group == "time"} == clocks
    of_volume = {name for name, each in ours.items() if "volume" in each.needs}
    assert {name for name, each in ours.items() if each.group == "volume"} == of_volume - {"ohlcv"}


def test_the_columns_with_a_group_are_those_of_the_market_in_order() -> None:
    spec = replace(MIXED, higher_timeframes=["4h"])
    data = DataSpec(provider="synthetic", timeframe="1h", synthetic=SyntheticSpec(bars=3000))
    market = build_market(data, spec, SessionSpec())
    assert tuple(column_groups(spec)) == market.feature_names
    chosen = columns_in_groups(replace(spec, groups=["oscillator", "price"]), market.feature_names)
    assert chosen == ("returns", "rsi", "returns_4h", "rsi_4h")
    assert columns_in_groups(spec, market.feature_names) == market.feature_names


def test_an_extension_names_its_group_or_is_in_the_custom_one() -> None:
    def gap(bars: AssetBars) -> list[FloatArray]:
        return [bars.open]

    feature("gap_custom", warmup=0)(gap)
    feature("gap_price", warmup=0, group="price")(gap)
    try:
        spec = FeatureSpec(indicators=["gap_custom", "gap_price"], groups=["custom"])
        assert columns_in_groups(spec, ("gap_custom", "gap_price")) == ("gap_custom",)
        with pytest.raises(BadInputError, match="group of gap_price='prise' is not allowed"):
            feature("gap_price", warmup=0, group="prise")
    finally:
        del FEATURES["gap_custom"], FEATURES["gap_price"]


def test_a_group_without_a_column_is_refused_with_its_members() -> None:
    spec = replace(MIXED, groups=["price", "volume"])
    words = r"no column is in the group volume, for feature.indicators have columns of price, trend, osc"
    with pytest.raises(BadInputError, match=words) as caught:
        check_groups(spec)
    assert "add one of cmf, mfi, obv, volume" in str(caught.value)
    with pytest.raises(BadInputError, match=words):
        columns_in_groups(spec, tuple(column_groups(spec)))
    check_groups(replace(spec, groups=[]))
    check_groups(replace(spec, indicators=["unknown"]))  # refused by its own name elsewhere


@pytest.mark.parametrize(
    ("groups", "words"), [(["prices"], "feature.groups.*price, trend"), (["time", "time"], "without repeats")]
)
def test_unknown_and_repeated_groups_are_refused(groups: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        FeatureSpec(groups=groups)
