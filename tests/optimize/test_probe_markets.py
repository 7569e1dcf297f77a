"""Markets with a known answer, through the spine: skill is found, noise is not, the future is not seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.costs import CostSpec
from envs.observations import observation_layout
from envs.spec import EnvSpec
from envs.types import FloatArray
from optimize.agents.spec import AgentSpec
from optimize.data.features.spec import FeatureSpec
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.evaluate.metrics import sharpe_ratio
from optimize.evaluate.windows import WindowSpec
from optimize.study.spec import StudySpec, resolve
from optimize.walkforward.markets import build_windowed_market
from optimize.walkforward.run import run_window, seed_of
from tests.tiers import mostly_slow

PPO = {"n_steps": 64, "batch_size": 64, "n_epochs": 4, "learning_rate": 3e-3, "gamma": 0.5}
BARS = 1440


def probe(data: DataSpec, steps: int, cost: CostSpec) -> StudySpec:
    spec = StudySpec(
        name="probe",
        data=data,
        feature=FeatureSpec(lookback=2, indicators=["returns"]),
        agent=AgentSpec(total_timesteps=steps, n_envs=4, net="tiny", hyperparameters=PPO),
        cost=cost,
        window=WindowSpec(count=2, train_ratio=2.0, min_train_bars=20),
    )
    return resolve(spec)


def returns_of(spec: StudySpec, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Train and evaluate every window; return the session returns, net and at zero cost."""
    windowed = build_windowed_market(spec, None)
    measured = [
        run_window(spec, windowed, window, seed_of([seed, 0], window.index, 0))[1]
        for window in windowed.windows
    ]
    net = np.concatenate([each.returns for each in measured])
    return net, np.concatenate([each.free_returns for each in measured])


def test_a_trained_agent_rides_the_known_optimum() -> None:
    made = SyntheticSpec(kind="known_optimum", bars=BARS, volatility=0.005, period=24)
    net, _ = returns_of(probe(DataSpec("synthetic", synthetic=made), 6144, CostSpec()))
    assert sharpe_ratio(net, 365.0) > 10
    # The oracle earns about `volatility` a bar less two turns of the position a day.
    assert np.mean(np.log1p(net)) > 0.5 * 24 * made.volatility


@pytest.mark.slow
def test_over_many_seeds_nothing_is_earned_on_a_random_walk() -> None:
    seeds = range(8)
    net, free = [], []
    for seed in seeds:
        made = SyntheticSpec(kind="random_walk", bars=BARS, seed=100 + seed)
        spec = probe(DataSpec("synthetic", synthetic=made), 1024, CostSpec(commission_bps=10.0))
        paid, unpaid = returns_of(spec, seed)
        net.append(sharpe_ratio(paid, 365.0))
        free.append(sharpe_ratio(unpaid, 365.0))
    assert np.isfinite(net).all()
    error = np.std(free, ddof=1) / np.sqrt(len(free))
    assert abs(np.mean(free)) < 3 * error
    assert np.mean(net) < np.mean(free)  # the costs are paid ...
    assert np.mean(net) < 0  # ... and nothing pays for them


@pytest.mark.parametrize("timeframe", mostly_slow(["1h", "4h"], "1h"))
def test_no_bar_after_a_test_span_changes_what_it_brought(tmp_path: Path, timeframe: str) -> None:
    prices = random_prices()
    spec = of_file(tmp_path / "before.parquet", prices, timeframe)
    windowed = build_windowed_market(spec, None)
    first, second = windowed.windows
    later = changed_from(prices, int(windowed.market.bar_end[first.test_last]))
    other = of_file(tmp_path / "after.parquet", later, timeframe)
    moved = build_windowed_market(other, None)
    assert moved.market.fingerprint != windowed.market.fingerprint
    assert moved.windows == windowed.windows
    before, after = run_window(spec, windowed, first, 7)[1], run_window(other, moved, first, 7)[1]
    assert np.array_equal(before.returns, after.returns)
    assert np.array_equal(before.free_returns, after.free_returns)
    assert before.metrics == after.metrics
    # The changed bars do matter, one window later.
    before, after = run_window(spec, windowed, second, 7)[1], run_window(other, moved, second, 7)[1]
    assert not np.array_equal(before.returns, after.returns)


@pytest.mark.parametrize("timeframe", mostly_slow(["1h", "4h"], "1h"))
def test_no_bar_of_a_test_span_changes_what_was_learned(tmp_path: Path, timeframe: str) -> None:
    prices = random_prices()
    spec = of_file(tmp_path / "before.parquet", prices, timeframe)
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    seen = (1, observation_layout(windowed.market, spec.feature.lookback, spec.reward).size)
    probes = np.random.default_rng(0).normal(size=(64, *seen)).astype(np.float32)

    def learned(at_ns: int) -> tuple[FloatArray, FloatArray]:
        later = changed_from(prices, at_ns)
        other = of_file(tmp_path / f"{at_ns}.parquet", later, timeframe)
        trained, _, _ = run_window(other, build_windowed_market(other, None), window, 7)
        start = np.ones(1, dtype=bool)
        actions = [trained.agent.act(observation, None, start)[0] for observation in probes]
        return np.array(actions), trained.representation.scaler.std

    untouched = learned(int(windowed.market.bar_end[-1]))
    at_test = learned(int(windowed.market.timestamp[window.test_first]))
    before = learned(int(windowed.market.timestamp[window.train_last - 1]))
    assert all(np.array_equal(a, b) for a, b in zip(untouched, at_test, strict=True))
    assert not np.array_equal(untouched[0], before[0])
    assert not np.array_equal(untouched[1], before[1])


def random_prices() -> pd.DataFrame:
    """Return 60 days of hourly bars that nobody can foresee."""
    rng = np.random.default_rng(11)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, BARS)))
    opens = np.concatenate([[100.0], close[:-1]])
    stamp = pd.date_range("2022-01-01", periods=BARS, freq="h", tz="UTC")
    frame = pd.DataFrame({"timestamp": stamp, "open": opens, "high": opens, "low": opens, "close": close})
    return _with_range(frame.assign(volume=1.0))


def changed_from(prices: pd.DataFrame, at_ns: int) -> pd.DataFrame:
    """Return other prices from the bar stamped at_ns on, the same ones before it."""
    changed = prices.copy()
    after = changed["timestamp"] >= pd.Timestamp(at_ns, unit="ns", tz="UTC")
    swing = 1.5 + 0.2 * np.sin(np.arange(after.sum()))
    for column in ("open", "close"):
        changed.loc[after, column] *= swing
    return _with_range(changed)


def _with_range(prices: pd.DataFrame) -> pd.DataFrame:
    body = prices[["open", "close"]]
    return prices.assign(high=body.max(axis=1), low=body.min(axis=1))


def of_file(path: Path, prices: pd.DataFrame, timeframe: str) -> StudySpec:
    prices.to_parquet(path)
    data = DataSpec("file", path=str(path), timeframe=timeframe)
    # Episodes are short and many enough to start anywhere in the train span.
    return replace(probe(data, 2048, CostSpec()), env=EnvSpec("continuous", episode_bars=16))
