"""Importance of features for stored agents: the Sharpe ratio lost where blocks of a feature are shuffled."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.agents.artifacts import SPEC
from optimize.bundles.replay import load_window_model
from optimize.evaluate.metrics import sharpe_ratio
from optimize.walkforward.files import window_folder
from optimize.walkforward.markets import WindowedMarket
from optimize.walkforward.run import WindowModel, evaluate_window
from optimize.walkforward.spec import RunSpec

SHUFFLED_SPAN = (0.025, 0.975)
FEWEST_BLOCKS = 4  # of a test span; shorter blocks where it has fewer sessions


@dataclass(frozen=True)
class FeatureImportance:
    """Loss of Sharpe ratio by shuffles of one feature: mean and the interval of 95 % of the shuffles."""

    feature: str
    mean: float
    low: float
    high: float


def permute_features(
    spec: RunSpec, windowed: WindowedMarket, folder: Path, shuffles: int, seed: int = 0
) -> list[FeatureImportance]:
    """Return the importance of each feature for the models of repeat 0 in `folder`, largest loss first.

    Blocks are a session long, and no shorter than the lookback, so that the order within a day stays. Empty
    where the folder lacks a model.
    """
    places = [window_folder(folder, window.index, 0) for window in windowed.windows]
    if not all((place / SPEC).is_file() for place in places):
        return []
    models = [load_window_model(spec, windowed, place) for place in places]
    base = _sharpe(spec, windowed, models)
    generator = np.random.default_rng(seed)
    found = []
    read = {name for model in models for name in model.representation.scaler.feature_names}
    for place, name in enumerate(windowed.market.feature_names):
        if name not in read:
            continue
        losses = [
            base - _sharpe(spec, _shuffled(windowed, place, spec.feature.lookback, generator), models)
            for _ in range(shuffles)
        ]
        defined = [loss for loss in losses if np.isfinite(loss)]
        if defined:
            low, high = np.quantile(defined, SHUFFLED_SPAN)
            found.append(FeatureImportance(name, float(np.mean(defined)), float(low), float(high)))
    return sorted(found, key=lambda each: -each.mean)


def _sharpe(spec: RunSpec, windowed: WindowedMarket, models: list[WindowModel]) -> float:
    """Return the Sharpe ratio of the joined test spans; NaN where the returns have no variance."""
    parts = [
        evaluate_window(spec, windowed, window, model)[0].returns
        for window, model in zip(windowed.windows, models, strict=True)
    ]
    return sharpe_ratio(np.concatenate(parts), windowed.market.sessions_per_year, spec.score.risk_free)


def _shuffled(
    windowed: WindowedMarket, feature: int, lookback: int, generator: np.random.Generator
) -> WindowedMarket:
    """Return the market with the blocks of one feature in another order within each test span."""
    market = windowed.market
    features: NDArray[np.float32] = market.features.copy()
    per_session = max(1, round(market.n_bars / max(1, len(np.unique(market.session)))))
    for window in windowed.windows:
        span = slice(window.test_first, window.test_last + 1)
        bars = window.test_last + 1 - window.test_first
        length = max(1, min(max(per_session, lookback), bars // FEWEST_BLOCKS))
        edges = np.arange(0, bars, length)
        blocks = np.split(np.arange(bars), edges[1:])
        order = np.concatenate([blocks[block] for block in generator.permutation(len(blocks))])
        features[span, :, feature] = market.features[span, :, feature][order]
    return replace(windowed, market=replace(market, features=features))
