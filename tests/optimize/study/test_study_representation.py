"""A search over what the agent sees: each window of each trial has the columns of its own parameters."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from optimize.data.features import columns_in_groups
from optimize.data.features.spec import FeatureSpec
from optimize.results.runs import finished_runs
from optimize.results.states import RunState
from optimize.search.spec import SamplerSpec
from optimize.study.finalists.plan import FinalistPlan, choose_entrants
from optimize.study.finalists.retrain import Place
from optimize.study.finalists.work import entrant_markets, run_plan
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec
from optimize.walkforward.files import SCALER, finalist_folder, run_folder, window_folder
from optimize.walkforward.markets import WindowedMarket, shared_market
from optimize.walkforward.representation import load_representation
from optimize.walkforward.spec import read_run
from tests.optimize.study.studies import opened, small_spec

INDICATORS = ["returns", "range", "stochastic", "time_of_day"]


def searching(folder: Path) -> StudySpec:
    feature = FeatureSpec(lookback=1, indicators=INDICATORS)
    space = {
        "feature": {
            "lookback": [1, 2],
            "groups": [[], ["price"], ["price", "time"]],
            "select": [0, 2],
            "forecast": ["none", "ridge"],
            "forecast_alone": {"choices": [False, True], "when": {"feature.forecast": ["ridge"]}},
        }
    }
    sampler = SamplerSpec(name="random", n_startup_trials=2)
    return dataclasses.replace(small_spec(folder), feature=feature, space=space, sampler=sampler, n_trials=8)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_two_workers_and_the_finalists_fit_what_each_trial_sees(tmp_path: Path) -> None:
    spec = searching(tmp_path)
    run_study(spec, Console(quiet=True))
    context = opened(spec)
    with context.engine.connect() as conn:
        runs = finished_runs(conn, spec.name)
    assert len(runs) == 8
    seen = set()
    markets: dict[str, WindowedMarket] = {}
    for run in runs:
        assert run.state == RunState.COMPLETE
        feature = read_run(run.spec).feature
        windowed = shared_market(read_run(run.spec), markets, None)
        folder = run_folder(spec.folder, run.trial_number, run.run_uuid)
        stored = window_folder(folder, 1, 0) / SCALER
        columns = load_representation(stored, feature, windowed.market.feature_names).columns
        of_groups = len(columns_in_groups(feature, windowed.market.feature_names))
        chosen = min(feature.select or of_groups, of_groups)
        has_forecast = feature.forecast == "ridge"
        assert len(columns) == (1 if has_forecast and feature.forecast_alone else chosen + has_forecast)
        seen.add(columns)
    assert len(seen) > 3
    assert len(markets) <= 4  # by lookback and forecast alone, which move the first bar of a window
    plan = FinalistPlan(spec.name, spec.seed, choose_entrants(context.engine, spec, 3), 1, 0.01, spec.gate)
    run_plan(Place(spec.folder, context.engine), plan, entrant_markets(spec), lambda: False)
    for entrant in plan.entrants:
        folder = finalist_folder(spec.folder, entrant.parameter_set, 0)
        feature = entrant.spec.feature
        found = load_representation(
            window_folder(folder, 1, 0) / SCALER, feature, windowed.market.feature_names
        )
        assert found.columns in seen
