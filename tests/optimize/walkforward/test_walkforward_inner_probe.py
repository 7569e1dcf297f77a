"""The probe before any search reads bars before the first test window alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from envs.costs import CostSpec
from optimize.data.features.spec import FeatureSpec
from optimize.evaluate.luck.holm import holm
from optimize.evaluate.probe.carriers import Carrier, find_carriers
from optimize.report.probe_picture import write_probe_picture
from optimize.report.probe_table import EDGE, HOPELESS, carrier_table, probe_table, probe_verdict
from optimize.study.spec import StudySpec
from optimize.walkforward.inner_probe import (
    InnerProbe,
    Inputs,
    choices_of_inputs,
    inner_windows,
    probe_inputs,
    with_inputs,
)
from optimize.walkforward.markets import WindowedMarket, build_windowed_market, fit_to_window
from tests.markets import make_market
from tests.optimize.study.studies import small_spec

ONE = Inputs("1h", 2)


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    return small_spec(tmp_path)


def test_inner_windows_lie_before_the_first_test_window(spec: StudySpec) -> None:
    windowed = build_windowed_market(spec, None)
    inner, first = inner_windows(windowed, spec), windowed.windows[0]
    assert len(inner.windows) == 4
    assert inner.windows[0].train_first >= first.train_first
    assert inner.windows[-1].test_last < first.test_first
    for one, after in zip(inner.windows, inner.windows[1:], strict=False):
        assert one.test_last + 1 == after.test_first
        assert after.train_last < after.test_first


def test_it_sees_the_columns_and_no_forecast_of_them(spec: StudySpec) -> None:
    shown = dataclasses.replace(spec.feature, forecast="ridge", forecast_alone=True, select=1)
    hidden = dataclasses.replace(spec, feature=shown)
    assert with_inputs(hidden, ONE).feature == with_inputs(spec, ONE).feature
    assert list(probe_inputs(hidden, [ONE], None)) == list(probe_inputs(spec, [ONE], None))


def test_no_bar_of_a_test_window_changes_it(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(of: StudySpec, cache_dir: Path | None) -> WindowedMarket:
        windowed = build_windowed_market(of, cache_dir)
        begin = windowed.windows[0].test_first
        names = ("open", "high", "low", "close", "features")
        arrays = {name: getattr(windowed.market, name).copy() for name in names}
        for array in arrays.values():
            array[begin:] = 1.0 + np.arange(len(array) - begin).reshape(-1, *[1] * (array.ndim - 1)) % 7
        return dataclasses.replace(windowed, market=dataclasses.replace(windowed.market, **arrays))

    (one,) = probe_inputs(spec, [ONE], None)
    assert one.standard_error is not None
    monkeypatch.setattr("optimize.walkforward.inner_probe.build_windowed_market", changed)
    assert list(probe_inputs(spec, [ONE], None)) == [one]


def test_too_few_bars_are_named_and_the_rest_is_measured(spec: StudySpec) -> None:
    short, one = probe_inputs(spec, [Inputs("1d", 2), ONE], None)
    assert short.sharpe is None
    assert "data.timeframe=1d" in (short.reason or "")
    assert one.reason is None
    rows = probe_table([short, one])
    assert (rows[0]["sharpe"], rows[0]["p_holm"]) == (None, None)
    assert rows[0]["verdict"].startswith("window 0")


def test_inputs_are_every_timeframe_lookback_and_group() -> None:
    feature = FeatureSpec(indicators=["returns", "rsi"])
    found = choices_of_inputs(["1h", "4h"], [1], feature, groups=True)
    assert [each.group_words for each in found] == ["all", "price", "oscillator"] * 2
    assert choices_of_inputs(["1h"], [1, 4], feature, groups=False) == [Inputs("1h", 1), Inputs("1h", 4)]
    alone = choices_of_inputs(["1h"], [1], FeatureSpec(indicators=["returns"]), groups=True)
    assert alone == [Inputs("1h", 1)]


def test_inputs_change_timeframe_lookback_and_groups_of_the_spec(spec: StudySpec) -> None:
    own = with_inputs(spec, Inputs("2h", 3, ("price",)))
    assert (own.data.target, own.feature.lookback, own.feature.groups) == ("2h", 3, ["price"])


def test_without_a_gain_after_costs_inputs_are_hopeless(spec: StudySpec) -> None:
    dear = dataclasses.replace(spec, cost=CostSpec(commission_bps=900.0))
    (found,) = probe_inputs(dear, [ONE], None)
    assert (found.sharpe, found.standard_error, found.hopeless) == (0.0, None, True)
    (row,) = probe_table([found])
    assert row["verdict"] == HOPELESS
    assert probe_verdict([row], 0, 5).startswith("hopeless: no choice of inputs")


def test_an_interval_above_zero_after_holm_is_an_edge(tmp_path: Path) -> None:
    strong, weak, bad = (
        InnerProbe(Inputs("1h", lookback), 100, sharpe, 1.0, sharpe + 1.0, 0.01)
        for lookback, sharpe in ((1, 4.0), (2, 1.7), (4, -2.5))
    )
    rows = probe_table([strong, weak, bad])
    assert [row["verdict"] for row in rows] == [EDGE, "cannot tell", HOPELESS]
    assert rows[1]["p_holm"] == pytest.approx(2 * 0.0446, rel=1e-2)
    assert (rows[0]["low"], rows[0]["eaten"]) == (pytest.approx(2.04), pytest.approx(1.0))
    assert probe_verdict(rows, 2, 9).startswith("1 of 3 choices of inputs hold a linear edge after costs")
    assert "cannot" not in probe_verdict(rows[2:], 0, 9)
    assert probe_verdict(rows[1:2], 0, 9).startswith("no linear edge can be told from luck (a Sharpe ratio")
    write_probe_picture(tmp_path / "probe.png", "x", rows)
    assert (tmp_path / "probe.png").stat().st_size > 1000


def test_the_column_and_lag_that_carry_an_edge_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 1, 4)).astype(np.float32)
    returns = rng.normal(0, 0.01, (3000, 1))
    returns[2:] += 0.002 * features[:-2, :, 1]
    close = 100 * np.exp(np.cumsum(returns, axis=0))
    market = make_market(close, open=np.vstack([close[:1], close[:-1]]), features=features)
    found = find_carriers(market, (3, 2900), 3, at_open=True)
    assert len(found) == 4 * 3 * 3
    rows, passed = carrier_table({"1h": found})
    assert (rows[0]["column"], rows[0]["lag"], rows[0]["horizon"]) == ("feature_1", 1, 1)
    passing = {(row["column"], row["lag"]) for row in rows if row["p_holm"] < 0.05}
    assert ("feature_1", 1) in passing
    assert {column for column, _ in passing} == {"feature_1"}
    assert passed <= 4
    assert all(isinstance(each, Carrier) and abs(each.correlation) <= 1 for each in found)


def test_t_values_of_noise_have_their_size() -> None:
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (2000, 1)), axis=0))
    market = make_market(close, features=rng.normal(size=(2000, 1, 40)).astype(np.float32))
    found = find_carriers(market, (0, 1999), 1, at_open=True)
    for horizon in (1, 16):  # overlapping labels leave the size of the test
        share = np.mean([each.p_value < 0.05 for each in found if each.horizon == horizon])
        assert share <= 0.15
    assert carrier_table({"1h": found})[1] == 0


def test_the_carriers_of_a_window_use_its_train_span_alone(spec: StudySpec) -> None:
    windowed = build_windowed_market(spec, None)
    first = windowed.windows[0]
    _, market = fit_to_window(spec, windowed, first)
    close = market.close.copy()
    close[first.train_last + 1 :] *= 3.0
    span = (first.train_first, first.train_last)
    one, other = (
        find_carriers(each, span, 2, at_open=True)
        for each in (market, dataclasses.replace(market, close=close))
    )
    assert one == other


def test_holm_multiplies_by_the_number_of_hypotheses_that_are_left() -> None:
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []
