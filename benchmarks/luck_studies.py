"""Whole studies on markets with and without an edge: the score of the selection, beside the best score."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.luck_simulation import stopped
from benchmarks.stub_training import market_and_own, run_to_cap, stub_training
from envs.spec import EnvSpec
from envs.types import FloatArray
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.database import DatabaseSpec, open_engine
from optimize.evaluate.gate_spec import ResultGateSpec
from optimize.evaluate.score import ScoreSpec
from optimize.evaluate.selection import SelectionRule, selection_walk_forward
from optimize.evaluate.windows import Window, WindowSpec
from optimize.report.nested import stored_nested
from optimize.report.selection import measure_selection
from optimize.results.queries import best_score
from optimize.results.records import load_study
from optimize.results.returns import StudyReturns, load_returns
from optimize.search.spec import PrunerSpec, SamplerSpec
from optimize.study.nested.run import base_market, run_nested
from optimize.study.spec import StudySpec, resolve
from optimize.walkforward.markets import WindowedMarket

YEAR = 365.0
VOLATILITY = 0.01  # of a session
EDGE = 0.3  # Sharpe ratio of a session at the best learning rate
LOW, HIGH, BEST = 1e-4, 1e-2, 0.75  # learning rates, and the best one as a share of the log range
WINDOWS = 4
TABLE_TRIALS, NESTED_TRIALS, TRAINED_TRIALS = 30, 6, 4
PRUNER = PrunerSpec(n_startup_trials=4)
TRAINED_BARS, TRAINED_STEPS = 12_000, 16_384
RULE = SelectionRule("joined", 0.0, 0.0, 0, 0.0)
NO_EDGE = "none"


def noise(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
    """Return session returns without an edge, gross of costs."""
    return market_and_own(spec, window, seed, VOLATILITY)


def with_edge(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
    """Return session returns with a mean that is largest at one learning rate and zero far from it."""
    rate = float(spec.agent.hyperparameters["learning_rate"])
    share = np.log(rate / LOW) / np.log(HIGH / LOW)
    mean = EDGE * VOLATILITY * max(0.0, 1 - 4 * abs(share - BEST))
    return np.asarray(market_and_own(spec, window, seed, VOLATILITY) + mean)


WORLDS = {"none": noise, "planted": with_edge}


def stub_spec(folder: Path, name: str, **changes: Any) -> StudySpec:
    """Return a study on hourly bars, 250 sessions, with one searched key and no costs."""
    spec = StudySpec(
        name=name,
        preflight=False,
        output_dir=str(folder / "studies"),
        data=DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=6000)),
        feature=FeatureSpec(lookback=2, indicators=["returns"]),
        agent=AgentSpec(
            total_timesteps=64, net="tiny", hyperparameters={"n_steps": 16, "batch_size": 32, "n_epochs": 1}
        ),
        space={"agent": {"learning_rate": {"low": LOW, "high": HIGH, "log": True}}},
        window=WindowSpec(count=WINDOWS, train_ratio=2.0, min_train_bars=20, holdout_share=0.0),
        score=ScoreSpec(min_periods=2, min_trades=0, min_volatility=0.0),
        sampler=SamplerSpec("random"),
        pruner=PrunerSpec(name="none"),
        gate=ResultGateSpec(opposite_sign=False, constant_policy=False),
        database=DatabaseSpec(url=f"sqlite:///{folder / f'{name}.db'}"),
    )
    return resolve(dataclasses.replace(spec, **changes))


def chosen(folder: Path, edge: str, seed: int) -> dict[str, float]:
    """Return the selection walk-forward of one recorded study, and the best score.

    The number on the board is that of all trials; a pruner then stops some, and it is measured with them and
    for the trials alone that were not stopped.
    """
    spec = stub_spec(folder, f"table_{edge}_{seed}", seed=seed, n_trials=TABLE_TRIALS)
    with stub_training(WORLDS[edge]):
        run_to_cap(spec)
    engine = open_engine(spec.database.url)
    try:
        with engine.connect() as conn:
            record, found = load_study(conn, spec.name), load_returns(conn, spec.name)
            assert record is not None
            assert found is not None
            board, best = measure_selection(conn, record, YEAR), best_score(conn, spec.name)
    finally:
        engine.dispose()
    assert board is not None
    table = found.returns[:, 0].T.copy()
    ended = stopped(table, PRUNER, np.searchsorted(found.window, np.arange(1, WINDOWS + 1)))
    values = {
        "board": board.sharpe,
        "best": best,
        "with_pruned": _selected(found, table, np.ones(len(ended), np.bool_)),
        "survivors": _selected(found, table, ~ended),
    }
    return {key: float("nan") if value is None else float(value) for key, value in values.items()}


def _selected(found: StudyReturns, table: FloatArray, kept: Any) -> float | None:
    measured = selection_walk_forward(
        returns=table.T[kept][:, None, :],
        window=found.window,
        trades=found.trades[kept][:, :1],
        parameter_set=[name for name, keep in zip(found.parameter_set, kept, strict=True) if keep],
        rule=RULE,
        sessions_per_year=YEAR,
    )
    return None if measured is None else measured.sharpe


def nested(folder: Path, edge: str, seed: int) -> dict[str, float]:
    """Return the joined Sharpe ratio of a nested walk-forward with drawn returns, and the best score."""
    spec = stub_spec(folder, f"nested_{edge}_{seed}", seed=seed, n_trials=NESTED_TRIALS, nested=True)
    with stub_training(WORLDS[edge]):
        return _nested(spec)


def trained(folder: Path, edge: str, seed: int) -> dict[str, float]:
    """Return the same with real training, on a market that is made from the seed."""
    kind = "random_walk" if edge == NO_EDGE else "planted_edge"
    made = SyntheticSpec(kind=kind, bars=TRAINED_BARS, seed=seed, edge=0.1, volatility=0.005)
    settings = {"n_steps": 64, "batch_size": 64, "n_epochs": 5, "gamma": 0.9}
    spec = stub_spec(
        folder,
        f"trained_{edge}_{seed}",
        seed=seed,
        n_trials=TRAINED_TRIALS,
        nested=True,
        data=DataSpec(provider="synthetic", synthetic=made),
        feature=FeatureSpec(lookback=1, indicators=["returns", "time_of_day"]),
        agent=AgentSpec(total_timesteps=TRAINED_STEPS, hyperparameters=settings),
        env=EnvSpec(),
        window=WindowSpec(count=WINDOWS, holdout_share=0.0, min_train_bars=100),
    )
    return _nested(spec)


def _nested(spec: StudySpec) -> dict[str, float]:
    """Run a study and its nested walk-forward."""
    run_to_cap(spec)
    run_nested(spec, spec.name, base_market(spec), run_to_cap, lambda study: [], lambda line: None)
    engine = open_engine(spec.database.url)
    try:
        with engine.connect() as conn:
            found, best = stored_nested(conn, spec.name), best_score(conn, spec.name)
    finally:
        engine.dispose()
    assert found is not None
    values = {"board": found.sharpe, "best": best}
    return {key: float("nan") if value is None else float(value) for key, value in values.items()}
