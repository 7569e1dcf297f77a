"""reward.scale=volatility in a walk-forward: rewards of size one, in the unit of the train span."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from envs.rewards import RewardParams, RewardSpec, buy_and_hold_moments
from envs.types import FloatArray
from optimize.agents.sb3.vecenv import SB3VecEnv
from optimize.data.spec import DataSpec, SyntheticSpec
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from optimize.walkforward.run import evaluate_window, run_window
from tests.optimize.agents.support import same_weights
from tests.optimize.study.studies import small_spec

VOLATILITIES = (0.0005, 0.01)  # of an hour


def _spec(folder: Path, scale: str, volatility: float = 0.01) -> StudySpec:
    data = DataSpec(provider="synthetic", synthetic=SyntheticSpec(bars=1440, volatility=volatility))
    spec = small_spec(folder, data=data, reward=RewardSpec(scale=scale))
    agent = dataclasses.replace(spec.agent, total_timesteps=1024)
    return dataclasses.replace(spec, agent=agent)


def _wilder_tests(windowed: WindowedMarket, after: int) -> WindowedMarket:
    """Return a market whose prices move ten times as much after a bar, with the features that it had."""
    market = windowed.market
    ratio = (market.close[after:] / market.close[after]) ** 9.0
    moved = {name: getattr(market, name).copy() for name in ("open", "high", "low", "close")}
    for prices in moved.values():
        prices[after:] *= ratio
    return dataclasses.replace(windowed, market=dataclasses.replace(market, **moved))


@pytest.mark.parametrize("scale", ["volatility", "none"])
def test_the_rewards_of_a_training_are_of_size_one_in_any_market(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[NDArray[Any]] = []
    step = SB3VecEnv.step_wait

    def noted(env: SB3VecEnv) -> Any:
        found = step(env)
        paid.append(np.array(found[1]))
        return found

    monkeypatch.setattr(SB3VecEnv, "step_wait", noted)
    sizes = []
    for volatility in VOLATILITIES:
        spec = _spec(tmp_path, scale, volatility)
        windowed = build_windowed_market(spec, None)
        run_window(spec, windowed, windowed.windows[0], seed=3)
        sizes.append(float(np.concatenate(paid).std()))
        assert len(paid) == 512  # steps of two environments
        paid.clear()
    if scale == "volatility":
        assert all(0.4 < size < 1.2 for size in sizes)  # of exposures between none and all
    else:
        assert sizes[1] / sizes[0] == pytest.approx(VOLATILITIES[1] / VOLATILITIES[0], rel=0.2)


def test_the_unit_is_that_of_the_train_span_in_training_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(tmp_path, "volatility")
    windowed = build_windowed_market(spec, None)
    window = windowed.windows[0]
    units: list[float] = []
    fit = RewardSpec.fit

    def noted(reward: RewardSpec, moments: FloatArray) -> tuple[FloatArray, RewardParams]:
        found = fit(reward, moments)
        units.append(found[1].unit)
        return found

    monkeypatch.setattr(RewardSpec, "fit", noted)
    model, result, _ = run_window(spec, windowed, window, seed=3)
    mean, square, _ = buy_and_hold_moments(windowed.market, window.train_first, window.train_last)
    assert len(units) >= 3  # training, test span, train span
    assert units == pytest.approx([math.sqrt(square - mean**2)] * len(units), rel=1e-12)
    known = units[0]
    units.clear()
    wilder = _wilder_tests(windowed, window.train_last + 1)
    again, other, _ = run_window(spec, wilder, window, seed=3)
    assert set(units) == {known}
    assert same_weights(model.agent, again.agent)
    assert np.std(other.returns) > 3 * np.std(result.returns)
    units.clear()
    evaluate_window(spec, wilder, window, model)
    assert set(units) == {known}
