"""Chosen columns and the forecast column: honest in training, blind to the future, equal wherever read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.types import FloatArray, Market
from optimize.data.features.spec import FeatureSpec
from optimize.errors import BadInputError
from optimize.evaluate.probe import decision_returns
from optimize.walkforward.forecast import UNIT
from optimize.walkforward.forecasters import FORECASTERS, find_forecaster, forecaster
from optimize.walkforward.representation import (
    Representation,
    fit_representation,
    read_representation,
)
from tests.markets import make_market

BARS, COLUMNS, LAST = 2400, 30, 1799  # the train span ends on bar LAST
LOOKBACK = 2
FORECAST = FeatureSpec(lookback=LOOKBACK, forecast="ridge")


def noise(seed: int, assets: int = 1, edge: float = 0.0) -> Market:
    """Return prices whose next return leans by `edge` of its deviation on column 3 of the last asset."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(BARS, assets, COLUMNS)).astype(np.float32)
    moves = rng.normal(size=(BARS, assets))
    moves[1:] += edge * columns[:-1, -1:, 3]  # a decision fills at the next open, which is this close
    return make_market(100.0 * np.exp(0.01 * np.cumsum(moves, axis=0)), features=columns)


def fit(market: Market, feature: FeatureSpec = FORECAST, first: int = 10, last: int = LAST) -> Representation:
    return fit_representation(market, first, last, feature, at_open=True)


def labels_of(market: Market) -> FloatArray:
    return decision_returns(market, at_open=True, horizons=(1,))[:, :, 0]


def alike(market: Market, column: NDArray[np.float32], rows: slice) -> float:
    """Return the correlation of a column of the first asset with the return of the decision at its bar."""
    return float(np.corrcoef(column[rows], labels_of(market)[rows, 0])[0, 1])


def test_on_noise_training_sees_no_forecast_of_its_own_labels() -> None:
    inside, honest, after = [], [], []
    train, test = slice(20, LAST - 2), slice(LAST + 3, BARS - 3)
    for seed in range(8):
        market = noise(seed)
        found = fit(market)
        seen = found.observe(market, 0, BARS).features[:, 0, -1]
        assert found.forecast is not None
        whole = replace(found.forecast, until=np.zeros_like(found.forecast.until))
        in_sample = replace(found, forecast=whole).observe(market, 0, BARS).features[:, 0, -1]
        np.testing.assert_array_equal(seen[test], in_sample[test])
        honest.append(alike(market, seen, train))
        inside.append(alike(market, in_sample, train))
        after.append(alike(market, seen, test))
    error = 1.0 / np.sqrt(8 * (LAST - 20))
    assert abs(np.mean(honest)) < 3 * error
    assert abs(np.mean(after)) < 3 / np.sqrt(8 * (BARS - LAST))
    assert np.mean(inside) > 10 * error
    assert min(inside) > 0.1


def test_an_edge_is_found_in_training_and_after_it_and_its_column_is_chosen() -> None:
    market = noise(1, edge=0.3)
    found = fit(market, replace(FORECAST, select=1, lookback=1))
    assert found.shown == (market.feature_names[3],)
    assert found.columns == (market.feature_names[3], "forecast_ridge")
    seen = found.observe(market, 0, BARS).features[:, 0, -1]
    for rows in (slice(20, LAST - 2), slice(LAST + 3, BARS - 3)):
        assert alike(market, seen, rows) > 0.15
    labels = decision_returns(market, at_open=True, horizons=(1,))[20 : LAST - 2, 0, 0]
    assert found.forecast is not None
    np.testing.assert_allclose(found.forecast.scale, UNIT * labels.std(), rtol=0.05)
    weaker = fit(noise(1, edge=0.1), replace(FORECAST, select=1, lookback=1))
    smaller = weaker.observe(noise(1, edge=0.1), 0, BARS).features[:, 0, -1]
    assert np.nanstd(smaller) < 0.6 * np.nanstd(seen)  # a weaker edge shows smaller numbers


def test_each_asset_has_a_forecast_of_its_own_that_may_come_from_another_asset() -> None:
    market = noise(2, assets=3, edge=0.3)
    found = fit(market, replace(FORECAST, select=2))
    assert market.feature_names[3] in found.shown
    features = found.observe(market, 0, BARS).features
    assert features.shape == (BARS, 3, 3)
    labels = labels_of(market)
    after = slice(LAST + 3, BARS - 3)
    for asset in range(3):
        assert np.corrcoef(features[after, asset, -1], labels[after, asset])[0, 1] > 0.1


@pytest.mark.parametrize("feature", [FORECAST, replace(FORECAST, select=4), replace(FORECAST, horizon=5)])
def test_nothing_after_the_train_span_changes_the_fit(feature: FeatureSpec, tmp_path: Path) -> None:
    market, other = noise(3, edge=0.1), noise(4)

    def changed_after(row: int) -> Market:
        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(market, name)[:row], getattr(other, name)[row:]])

        names = ("open", "high", "low", "close", "features")
        arrays: dict[str, Any] = {name: joined(name) for name in names}
        return replace(market, **arrays)

    def stored(seen: Market) -> dict[str, bytes]:
        fit(seen, feature).save(tmp_path / "fit.npz")
        with np.load(tmp_path / "fit.npz") as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files}

    whole = stored(market)
    assert stored(changed_after(LAST + 1)) == whole
    assert stored(changed_after(LAST)) != whole


def test_a_forecast_at_a_bar_reads_no_later_bar() -> None:
    market, other = noise(5), noise(6)
    found = fit(market)
    features = market.features.copy()
    features[2000:] = other.features[2000:]
    seen, again = (
        found.observe(each, 0, BARS).features for each in (market, replace(market, features=features))
    )
    np.testing.assert_array_equal(seen[:2000], again[:2000])
    assert (seen[2000:, 0, -1] != again[2000:, 0, -1]).all()


def test_a_stored_fit_gives_the_same_bits_on_any_part_of_the_bars(tmp_path: Path) -> None:
    market = noise(7, assets=2)
    found = fit(market, replace(FORECAST, select=5))
    found.save(tmp_path / "scaler.npz")
    again = read_representation(tmp_path / "scaler.npz")
    assert again.columns == found.columns
    whole = found.observe(market, 0, BARS).features
    for first, end in ((0, BARS), (700, 900), (LAST - 5, BARS), (BARS - 3, BARS)):
        part = again.observe(market, first, end).features[first + LOOKBACK - 1 : end]
        assert part.tobytes() == whole[first + LOOKBACK - 1 : end].tobytes()
        assert np.isnan(again.observe(market, first, end).features[first, :, -1]).all()


def test_the_agent_may_see_the_forecast_alone() -> None:
    market = noise(8)
    found = fit(market, replace(FORECAST, forecast_alone=True))
    assert found.columns == ("forecast_ridge",)
    assert found.observe(market, 0, BARS).features.shape == (BARS, 1, 1)


def test_selection_keeps_the_order_of_the_market_and_all_columns_where_there_are_no_more() -> None:
    market = noise(9, edge=0.2)
    places = [market.feature_names.index(name) for name in fit(market, FeatureSpec(select=7)).shown]
    assert places == sorted(places)
    assert len(places) == 7
    assert fit(market, FeatureSpec(select=COLUMNS + 5)).shown == market.feature_names


def test_too_short_a_train_span_is_refused_with_its_remedies() -> None:
    words = r"train span of 40 bars at data.timeframe=1h holds 38 decisions .*, or leave both out"
    with pytest.raises(BadInputError, match=words):
        fit(noise(0), first=10, last=49)


def test_an_unknown_forecaster_is_answered_by_the_choices() -> None:
    with pytest.raises(BadInputError, match=r"feature.forecast='rigde' is not allowed.*none, ridge"):
        find_forecaster("rigde")


class MeanReturn:
    """Forecasts the mean return of the rows that it was fitted on."""

    def __init__(self, mean: FloatArray) -> None:
        self.mean = mean

    def forecast(self, observed: NDArray[np.float32]) -> FloatArray:
        return np.repeat(self.mean[None], len(observed), axis=0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.mean}


def test_a_forecaster_of_a_user_is_fitted_out_of_fold_by_the_caller(tmp_path: Path) -> None:
    rows = []

    @forecaster("mean_return", load=lambda arrays: MeanReturn(arrays["mean"]))
    def mean_return(observed: NDArray[np.float32], labels: FloatArray) -> MeanReturn:
        """Mean return of the train span."""
        assert observed.shape[1:] == (LOOKBACK, 1, COLUMNS)
        rows.append(len(labels))
        return MeanReturn(labels.mean(axis=0))

    try:
        market = noise(10)
        found = fit(market, replace(FORECAST, forecast="mean_return"))
        found.save(tmp_path / "fit.npz")
        again = read_representation(tmp_path / "fit.npz")
    finally:
        del FORECASTERS["mean_return"]
    assert FORECASTERS.keys() == {"ridge"}
    assert len(rows) == 6
    assert max(rows[:5]) < 0.81 * rows[5]
    features = [each.observe(market, 0, BARS).features for each in (found, again)]
    np.testing.assert_array_equal(features[0], features[1])
    assert len(np.unique(features[0][10 : LAST + 1, 0, -1])) == 5
    with pytest.raises(BadInputError, match=r"feature.forecast='mean_return'"):
        read_representation(tmp_path / "fit.npz")
