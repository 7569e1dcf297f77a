"""Worlds without training: each window of a trial has returns that are drawn from its seed and parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.types import FloatArray
from optimize.evaluate.metrics import WindowMetrics
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window, WindowSpec
from optimize.report.nested import stored_nested
from optimize.results.events import NestedMeasured
from optimize.results.finalists import Finalist
from optimize.search.spec import SamplerSpec
from optimize.study.nested.run import base_market, run_nested
from optimize.study.spec import StudySpec
from optimize.study.trials import execute as perform_module
from optimize.walkforward import run as trial_module
from optimize.walkforward.files import RETURNS, write_returns
from optimize.walkforward.markets import WindowedMarket
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import opened, play

VOLATILITY = 0.01  # of a session
Returns = Callable[[StudySpec, WindowedMarket, Window, int], FloatArray]
Rank = Callable[[str], list[Finalist]]
Trained = list[tuple[str, int]]  # study and window, of every training


def noise(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
    """Return session returns without any edge."""
    sessions = window.test_sessions[1] - window.test_sessions[0]
    return np.random.default_rng(seed).normal(0.0, VOLATILITY, sessions)


def with_edge(spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int) -> FloatArray:
    """Return session returns whose mean is higher for a higher learning rate, up to a Sharpe ratio of 10."""
    share = np.log10(float(spec.agent.hyperparameters["learning_rate"]) / 1e-4) / 2
    return np.asarray(noise(spec, windowed, window, seed) + 0.5 * VOLATILITY * (2 * share - 1))


def make_world(patch: pytest.MonkeyPatch, returns: Returns) -> Trained:
    """Let every window have these returns instead of training; return the windows as they are trained."""
    trained: Trained = []

    def run_window(
        spec: StudySpec, windowed: WindowedMarket, window: Window, seed: int, engine: Any = None
    ) -> tuple[Any, WindowResult, Any]:
        trained.append((spec.name, window.index))
        own = returns(spec, windowed, window, seed)
        metrics = WindowMetrics(
            sharpe=1.0,
            sharpe_zero_cost=1.0,
            total_return=0.0,
            max_drawdown=-0.1,
            volatility=0.1,
            turnover=1.0,
            cost=0.0,
            trades=5,
            exposure=1.0,
            bars=window.test_last - window.test_first + 1,
            sessions=len(own),
        )
        return None, WindowResult(metrics, own, own, False), None

    def write_window(folder: Path, sessions: Any, model: Any, measured: WindowResult, trades: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_returns(folder / RETURNS, sessions, measured)

    patch.setattr(trial_module, "run_window", run_window)
    patch.setattr(perform_module, "write_window", write_window)
    return trained


def nested_spec(small: Small, **changes: Any) -> StudySpec:
    """Return a study of four trials and four windows, of which three can be traded."""
    window = WindowSpec(count=4, train_ratio=2.0, min_train_bars=20)
    same = {"n_trials": 4, "nested": True, "sampler": SamplerSpec("random"), "window": window}
    return small(**{**same, **changes})


def launch(spec: StudySpec) -> str:
    """Run a study to its cap in this process."""
    play(opened(spec))
    return spec.name


def no_finalists(study: str) -> list[Finalist]:
    """Refuse to rank finalists, which a study without nested_finalists never asks for."""
    raise AssertionError(study)


def nest(spec: StudySpec, *, alone: bool = False, rank: Rank = no_finalists) -> NestedMeasured:
    """Run a study and its nested walk-forward, or the latter alone; return the stored result."""
    if not alone:
        launch(spec)
    lines: list[str] = []
    context = opened(spec)
    run_nested(spec, spec.name, base_market(spec), launch, rank, lines.append)
    with context.engine.connect() as conn:
        found = stored_nested(conn, spec.name)
    assert found is not None
    assert lines[-1].startswith(f"{spec.name}: nested walk-forward: a study of {spec.n_trials} trials before")
    return found
