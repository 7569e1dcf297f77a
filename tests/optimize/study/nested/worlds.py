"""Worlds without training: each window of a trial has returns that are drawn from its seed and parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.stub_training import PATCHED, Returns, Trained, stubs
from envs.types import FloatArray
from optimize.evaluate.windows import Window, WindowSpec
from optimize.report.nested import stored_nested
from optimize.results.event_log import events
from optimize.results.events import NestedMeasured, OuterWindowTraded
from optimize.results.finalists import Finalist
from optimize.search.spec import SamplerSpec
from optimize.study.nested.run import base_market, run_nested
from optimize.study.spec import StudySpec
from optimize.walkforward.markets import WindowedMarket
from tests.optimize.study.databases import Small
from tests.optimize.study.studies import opened, play

VOLATILITY = 0.01  # of a session
Rank = Callable[[str], list[Finalist]]


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
    for (module, name), stub in zip(PATCHED, stubs(returns, trained), strict=True):
        patch.setattr(module, name, stub)
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


def traded(spec: StudySpec) -> list[OuterWindowTraded]:
    """Return the outer windows of a nested walk-forward as they were traded."""
    with opened(spec).engine.connect() as conn:
        return [each.event for each in events(conn, spec.name, OuterWindowTraded)]
