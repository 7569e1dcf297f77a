"""The luck figures agree with independent implementations: quantstats, purgedcv and holdout."""

from pathlib import Path
from typing import Any

import holdout
import numpy as np
import pandas as pd
import purgedcv
import pytest
import quantstats
from scipy.stats import kurtosis, skew

from envs.types import FloatArray
from optimize.evaluate.luck import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    ledoit_wolf_test,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    time_aggregation_factor,
)


def skilled() -> FloatArray:
    """Return the returns (400 sessions, 10 trials) of noise beside one trial with an edge."""
    returns = np.random.default_rng(11).standard_t(5, (400, 10)) * 0.01
    returns[:, 4] += 0.0012
    return returns


@pytest.mark.market_data
def test_quantstats_agrees_but_for_its_bias_corrections(market_data: Path) -> None:
    bars = pd.read_parquet(market_data / "googl_1d_gymanytrading_2009_2018.parquet")
    close = pd.Series(bars["close"].to_numpy(dtype=np.float64))
    returns = close.pct_change().dropna()
    corrected = probabilistic_sharpe_ratio(
        sharpe=float(returns.mean() / returns.std(ddof=1)),
        benchmark=0.0,
        n_observations=len(returns),
        skewness=float(skew(returns, bias=False)),
        kurtosis=float(kurtosis(returns, fisher=False, bias=False)),
    )
    assert quantstats.stats.probabilistic_sharpe_ratio(returns) == pytest.approx(corrected, abs=1e-6)


@pytest.mark.parametrize("column", range(10))
def test_purgedcv_agrees_on_one_sharpe_ratio_but_for_its_moments(column: int) -> None:
    returns = skilled()[:, column]
    moments: dict[str, Any] = {
        "sharpe": float(returns.mean() / returns.std(ddof=0)),
        "skewness": float(skew(returns, bias=False)),
        "kurtosis": float(kurtosis(returns, fisher=False, bias=False)),
        "n_observations": len(returns),
    }
    found = probabilistic_sharpe_ratio(benchmark=0.02, **moments)
    assert purgedcv.probabilistic_sharpe_ratio(returns, 0.02) == pytest.approx(found, abs=1e-12)
    deflated = deflated_sharpe_ratio(n_trials=50, sharpe_variance=0.003, **moments)
    assert purgedcv.deflated_sharpe_ratio(returns, 50, 0.003) == pytest.approx(deflated, abs=1e-12)


@pytest.mark.parametrize("n_blocks", [4, 8, 10])
def test_purgedcv_and_holdout_agree_on_overfitting(n_blocks: int) -> None:
    found = probability_of_backtest_overfitting(returns=skilled(), n_blocks=n_blocks)
    purged = purgedcv.probability_of_backtest_overfitting(np.ascontiguousarray(skilled().T), n_blocks)
    held = holdout.probability_of_backtest_overfitting(skilled(), n_blocks=n_blocks)
    assert 0 < found.probability < 1
    assert sorted(purged.logits) == pytest.approx(sorted(found.logits), abs=1e-12)
    assert (purged.pbo, held.pbo) == pytest.approx((found.probability, found.probability))


def test_holdout_agrees_on_track_record_maximum_and_aggregation() -> None:
    shape: dict[str, Any] = {"skewness": -0.7, "kurtosis": 6.0}
    length = minimum_track_record_length(sharpe=0.08, benchmark=0.01, confidence=0.95, **shape)
    assert holdout.minimum_track_record_length(0.08, benchmark=0.01, **shape) == pytest.approx(length, abs=1)
    assert purgedcv.min_track_record_length(0.08, 0.01, 0.05, -0.7, 6.0) == np.ceil(length)
    for n_trials in (5, 50, 5000):
        expected = expected_maximum_sharpe(n_trials=n_trials, sharpe_variance=0.004)
        assert holdout.expected_maximum_sharpe(n_trials, 0.004) == pytest.approx(expected, rel=1e-9)
    lags = [0.1 * 0.8**lag for lag in range(11)]
    factor = time_aggregation_factor(periods=12, autocorrelations=lags)
    assert holdout.sharpe.serial_correlation_factor(12, lags) == pytest.approx(factor)


def test_holdout_agrees_on_two_sharpe_ratios() -> None:
    returns = skilled()
    ours = ledoit_wolf_test(first=returns[:, 4], second=returns[:, 2])
    theirs = holdout.pairwise.sharpe_difference(returns[:, 4], returns[:, 2])
    assert theirs.difference == pytest.approx(ours.difference, rel=2e-2)
    assert (theirs.p_value < 0.05) == (ours.p_value < 0.05)
