"""The feature sets: their features, the columns they read and their warm-up."""

import re
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from optimize.cli.dispatch import compose_configs
from optimize.data.cache import cache_key
from optimize.data.calendars.spec import SessionSpec
from optimize.data.features import FEATURES, columns_of, kind_of, warmup_bars
from optimize.data.features.spec import DEFAULT_INDICATORS, FeatureSpec
from optimize.data.market import build_market
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from tests.conftest import REPOSITORY

SETS = sorted(path.stem for path in (REPOSITORY / "conf" / "feature").glob("[!_]*.yaml"))
NEEDED = {"indicators": ["feature.indicators=[rsi,adx,stochastic]"]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["walkforge"])


def spec_of(name: str, *overrides: str) -> FeatureSpec:
    (config,) = compose_configs("data", [f"feature={name}", *NEEDED.get(name, []), *overrides])
    feature: FeatureSpec = config.feature
    return feature


def test_the_sets_are_those_that_are_told_of() -> None:
    assert SETS == ["all_indicators", "crypto_39", "indicators", "intraday", "minimal"]
    by_evidence = FeatureSpec(lookback=1, forecast="ridge", forecast_alone=True)  # of the battery
    assert spec_of("minimal") == replace(by_evidence, indicators=[*DEFAULT_INDICATORS, "sma_ratio"])


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_every_key_and_its_true_warm_up(name: str) -> None:
    folder = REPOSITORY / "conf" / "feature"
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    written = {*OmegaConf.create(text), *OmegaConf.load(folder / "_base.yaml")} - {"defaults"}
    assert written == {field.name for field in fields(FeatureSpec)} - {"parameters"}
    stated = re.search(r"(\d+) bars of\s+(# )?warm-up", text)
    if stated:
        assert int(stated[1]) == warmup_bars(spec_of(name))
    else:
        assert name == "indicators"


def test_the_free_form_states_the_warm_up_of_each() -> None:
    text = (REPOSITORY / "conf" / "feature" / "indicators.yaml").read_text(encoding="utf-8")
    for name, bars in (("adx", 339), ("macd", 335), ("rvi_volatility", 335), ("zigzag", 299), ("volume", 99)):
        assert FEATURES[name].warmup == bars
        assert str(bars) in text
    assert {FEATURES[name].warmup for name in ("rsi", "atr", "directional_movement", "spread")} == {325}
    assert {FEATURES[name].warmup for name in ("sma", "sma_ratio")} == {49}
    assert sum(feature.warmup > 25 for feature in FEATURES.values()) == 11


def test_crypto_39_has_5_raw_31_numeric_and_3_categorical_columns() -> None:
    spec = spec_of("crypto_39")
    columns = [column for name in spec.indicators for column in columns_of(name, spec.zigzag_pct)]
    kinds = Counter(kind_of(column) for column in columns)
    assert len(columns) == len(set(columns)) == 39
    assert columns[:5] == ["open", "high", "low", "close", "volume"]
    assert kinds["level"] == 5
    assert kinds["numeric"] == 31
    assert kinds["category"] + kinds["binned"] == 3


def test_all_indicators_leaves_out_what_few_data_have() -> None:
    left_out = {"spread", "minutes_to_close"}
    assert set(spec_of("all_indicators").indicators) == set(FEATURES) - left_out


def test_any_combination_is_one_override() -> None:
    spec = spec_of("indicators", "feature.indicators=[zigzag,aroon]", "feature.zigzag_pct=[2.0]")
    assert spec.indicators == ["zigzag", "aroon"]
    assert spec.zigzag_pct == [2.0]
    higher = spec_of("minimal", "feature.higher_timeframes=[4h,1d]")
    assert higher.higher_timeframes == ["4h", "1d"]
    with pytest.raises(BadInputError, match=r"feature.indicators=\[\] .* such as \[rsi,adx,stochastic\]"):
        compose_configs("data", ["feature=indicators"])


def test_what_changes_the_features_changes_the_cache_s_key() -> None:
    parts = DataSpec(), SessionSpec()
    keys = {
        cache_key(parts[0], spec, parts[1])
        for spec in (
            FeatureSpec(),
            FeatureSpec(higher_timeframes=["4h"]),
            FeatureSpec(zigzag_pct=[2.0]),
            FeatureSpec(indicators=["rsi"]),
        )
    }
    assert len(keys) == 4
    assert cache_key(parts[0], FeatureSpec(lookback=3), parts[1]) in keys


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("name", "file", "columns", "higher"),
    [
        ("crypto_39", "btcusd_1h_coinbase_2017_2019", 39, []),
        ("all_indicators", "btcusd_1h_coinbase_2017_2019", 68, []),
        ("minimal", "btcusd_1h_coinbase_2017_2019", 20 + 2 * 16, ["4h", "12h"]),
        ("intraday", "eurusd_1h_oanda_mid_2007_2018", 26, []),
    ],
)
def test_a_set_builds_a_market_of_real_bars(
    name: str, file: str, columns: int, higher: list[str], market_data: Path
) -> None:
    data = DataSpec(provider="file", path=str(market_data / f"{file}.parquet"), months=12)
    spec = spec_of(name, f"feature.higher_timeframes=[{','.join(higher)}]")
    market = build_market(data, spec, SessionSpec())
    assert len(market.feature_names) == columns
    assert market.features.shape[2] == columns
    no_volume = DataSpec(
        provider="file", path=str(market_data / "eurusd_1h_oanda_mid_2007_2018.parquet"), months=12
    )
    if name in ("crypto_39", "all_indicators"):
        with pytest.raises(BadInputError, match=r"feature.indicators: ohlcv, .* has no volume"):
            build_market(no_volume, spec, SessionSpec())
