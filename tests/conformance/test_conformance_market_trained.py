"""A trained agent earns nothing on symbols of one random walk on different grids, from file to score."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.costs import CostSpec
from envs.types import Market
from optimize.agents.spec import AgentSpec
from optimize.data.calendars.spec import SessionSpec
from optimize.data.spec import DataSpec
from optimize.evaluate.windows import WindowSpec
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import build_windowed_market
from optimize.walkforward.run import run_window
from tests.conformance.grids import BOUND, CASES, PATH, Case
from tests.optimize.study.studies import small_spec

FREE = CostSpec(commission_bps=0.0, slippage_bps=0.0, borrow_rate=0.0, short_rate=0.0)
LEARNER = AgentSpec(
    total_timesteps=40_000,
    n_envs=8,
    net="tiny",
    hyperparameters={"learning_rate": 3e-3, "gamma": 0.5, "n_steps": 128, "batch_size": 256},
)
HALVES = WindowSpec(count=1, train_ratio=1.0, min_train_bars=20, holdout_share=0.0)
GRIDS = (
    "crypto beside stock hours",
    "UTC days and New York weekdays",
    "Tokyo, London and New York",
    "UTC days and those of FX",
)


def study_of(case: Case, folder: Path) -> StudySpec:
    """Write a file a symbol and return a study without costs that trains on one half, tests on the other."""
    symbols: list[str] = []
    for part in case.parts(PATH):
        columns = {name: getattr(part, name)[:, 0] for name in ("open", "high", "low", "close", "volume")}
        stamps = pd.to_datetime(part.timestamp, utc=True)
        pd.DataFrame({"timestamp": stamps} | columns).to_parquet(folder / f"{part.symbols[0]}.parquet")
        symbols += part.symbols
    path = str(folder / "{symbol}.parquet")
    return small_spec(
        folder,
        data=DataSpec("file", path, symbols, timeframe=case.target, source_timeframe=case.timeframe),
        session=SessionSpec(calendar=case.calendar),
        feature=dataclasses.replace(case.feature, lookback=2, indicators=["returns", "range", "bollinger"]),
        cost=FREE,
        agent=LEARNER,
        window=HALVES,
    )


def standard_errors(spec: StudySpec, folder: Path, market: Market | None = None) -> float:
    """Train an agent; return how many standard errors its mean session of the test half is off zero."""
    windowed = build_windowed_market(spec, folder / "market")
    if market is not None:
        windowed = dataclasses.replace(windowed, market=market)
    _, measured, trades = run_window(spec, windowed, windowed.windows[0], seed=1)
    assert len(trades) > 50
    returns = measured.returns
    return float(abs(returns.mean()) / returns.std() * np.sqrt(len(returns)))


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_a_trained_agent_earns_nothing_on_one_random_walk(name: str, tmp_path: Path) -> None:
    assert standard_errors(study_of(CASES[name], tmp_path), tmp_path) < BOUND


@pytest.mark.slow
def test_the_agent_learns_a_leak(tmp_path: Path) -> None:
    """The features of the next row, seen now, are far beyond the bound."""
    spec = study_of(CASES["UTC days and New York weekdays"], tmp_path)
    market = build_windowed_market(spec, tmp_path / "market").market
    early = np.concatenate([market.features[1:], market.features[-1:]])
    assert standard_errors(spec, tmp_path, dataclasses.replace(market, features=early)) > 1.5 * BOUND
