import numpy as np
import pytest

from envs.types import FloatArray
from optimize.evaluate.probe import ridge
from optimize.evaluate.probe.ridge import FOLDS, LEAST_SCALE, PENALTIES, observed_columns, out_of_fold
from tests.markets import make_market, random_walk

HORIZONS, LOOKBACK = (1, 4), 3


def reference(columns: FloatArray, values: FloatArray, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Return weights and intercept as least squares with one more row for each weight."""
    centre, level = columns.mean(axis=0), values.mean(axis=0)
    weights = np.empty((columns.shape[1], values.shape[1]))
    for value in range(values.shape[1]):
        correlation = np.array([np.corrcoef(column, values[:, value])[0, 1] for column in columns.T])
        scale = np.maximum(correlation**2 / np.max(correlation**2), LEAST_SCALE)
        rows = np.vstack([columns - centre, np.diag(np.sqrt(penalty * len(columns)) / scale)])
        ends = np.concatenate([values[:, value] - level[value], np.zeros(columns.shape[1])])
        weights[:, value] = np.linalg.lstsq(rows, ends, rcond=None)[0]
    return weights, level - centre @ weights


@pytest.mark.parametrize("block", [ridge.ROWS_AT_ONCE, 17])
def test_fit_and_forecasts_equal_least_squares_without_the_fold(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(ridge, "ROWS_AT_ONCE", block)
    market = make_market(random_walk(300, assets=2), features=2)
    bars = np.setdiff1d(np.arange(LOOKBACK - 1, 280), [50, 51, 170])
    rng = np.random.default_rng(1)
    columns = observed_columns(market, bars, LOOKBACK).astype(np.float64)
    labels = rng.normal(0, 0.01, (len(bars), 2, 2))
    labels[..., 0] += 0.02 * columns[:, :1]
    fit, forecasts = out_of_fold(market, bars, labels, LOOKBACK, HORIZONS)
    gap = max(HORIZONS) + LOOKBACK
    candidates = np.empty((len(PENALTIES), *labels.shape))
    for fold in np.array_split(np.arange(len(bars)), FOLDS):
        rest = (bars < bars[fold[0]] - gap) | (bars > bars[fold[-1]] + gap)
        for place, penalty in enumerate(PENALTIES):
            found = reference(columns[rest], labels[rest].reshape(-1, 4), penalty)
            candidates[place, fold] = (columns[fold] @ found[0] + found[1]).reshape(-1, 2, 2)
    for kind in range(2):
        errors = np.square((candidates - labels)[..., kind] / labels[..., kind].std(axis=0))
        best = int(errors.mean(axis=(1, 2)).argmin())
        assert fit.penalty[kind] == PENALTIES[best]
        weights, intercept = reference(columns, labels[..., kind], PENALTIES[best])
        np.testing.assert_allclose(fit.weights[..., kind], weights, atol=1e-12)
        np.testing.assert_allclose(fit.intercept[:, kind], intercept, atol=1e-12)
        np.testing.assert_allclose(forecasts[..., kind], candidates[best, ..., kind], atol=1e-12)
    assert fit.penalty[0] < fit.penalty[1]
    inside = fit.forecast(observed_columns(market, bars, LOOKBACK))
    np.testing.assert_allclose(inside[..., 0], columns @ fit.weights[..., 0] + fit.intercept[:, 0])


def test_observed_columns_are_the_features_of_the_observation_oldest_first() -> None:
    market = make_market(random_walk(20, assets=2), features=3)
    shown = observed_columns(market, np.array([5, 9]), 4)
    np.testing.assert_array_equal(shown[1], market.features[6:10].reshape(-1))


def test_one_column_of_many_carries_the_forecast() -> None:
    market = make_market(random_walk(4000), features=20)
    bars = np.arange(4000)
    columns = observed_columns(market, bars, 1).astype(np.float64)
    labels = (0.06 * columns[:, :1] + np.random.default_rng(2).normal(size=(4000, 1)))[:, :, None]
    fit, _ = out_of_fold(market, bars, labels, 1, (1,))
    forecast = fit.forecast(observed_columns(market, bars, 1))[:, 0, 0]
    assert np.corrcoef(forecast, columns[:, 0])[0, 1] > 0.9  # 0.7 with equal penalties


def test_a_constant_column_has_no_weight() -> None:
    market = make_market(random_walk(300), features=3)
    market.features[:, :, 1] = 1.0
    labels = np.random.default_rng(3).normal(size=(300, 1, 1))
    fit, _ = out_of_fold(market, np.arange(300), labels, 1, (1,))
    assert fit.weights[1, 0, 0] == 0.0
