"""Luck: how much of the best of many results chance alone would show. Pure functions, per observation."""

from optimize.evaluate.luck.e_process import e_process
from optimize.evaluate.luck.effective_trials import effective_rank, effective_trials
from optimize.evaluate.luck.maximum import MaximumTest, bootstrap_maximum
from optimize.evaluate.luck.overfitting import BacktestOverfitting, probability_of_backtest_overfitting
from optimize.evaluate.luck.paired import (
    PairedSharpeTest,
    SharpeInterval,
    jobson_korkie_memmel_test,
    ledoit_wolf_test,
    sharpe_interval,
)
from optimize.evaluate.luck.power import detectable_sharpe, sessions_to_detect, sidak_critical_value
from optimize.evaluate.luck.sharpe_inference import (
    SharpeMoments,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    maximum_normal_moments,
    minimum_track_record_length,
    minimum_track_record_length_under_null,
    probabilistic_sharpe_ratio,
    probabilistic_sharpe_ratio_under_null,
    sharpe_moments,
    sharpe_standard_deviation,
    sharpe_standard_error,
    time_aggregation_factor,
)

__all__ = [
    "BacktestOverfitting",
    "MaximumTest",
    "PairedSharpeTest",
    "SharpeInterval",
    "SharpeMoments",
    "bootstrap_maximum",
    "deflated_sharpe_ratio",
    "detectable_sharpe",
    "e_process",
    "effective_rank",
    "effective_trials",
    "expected_maximum_sharpe",
    "jobson_korkie_memmel_test",
    "ledoit_wolf_test",
    "maximum_normal_moments",
    "minimum_track_record_length",
    "minimum_track_record_length_under_null",
    "probabilistic_sharpe_ratio",
    "probabilistic_sharpe_ratio_under_null",
    "probability_of_backtest_overfitting",
    "sessions_to_detect",
    "sharpe_interval",
    "sharpe_moments",
    "sharpe_standard_deviation",
    "sharpe_standard_error",
    "sidak_critical_value",
    "time_aggregation_factor",
]
