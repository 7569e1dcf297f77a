"""Studies whose windows have drawn returns in place of training: all else is the engine itself."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from envs.types import FloatArray
from optimize.evaluate.metrics import WindowMetrics
from optimize.evaluate.summary import WindowResult
from optimize.evaluate.windows import Window
from optimize.study.context import enroll, open_study
from optimize.study.spec import StudySpec
from optimize.study.trials import execute
from optimize.study.trials.claim import Claim, claim
from optimize.study.workers.process import market_builder
from optimize.walkforward import run as walkforward_run
from optimize.walkforward.files import RETURNS, write_returns
from optimize.walkforward.markets import WindowedMarket

Returns = Callable[[StudySpec, WindowedMarket, Window, int], FloatArray]
Trained = list[tuple[str, int]]  # study and window, of every training
PATCHED = ((walkforward_run, "run_window"), (execute, "write_window"))


def stubs(returns: Returns, trained: Trained) -> tuple[Callable[..., Any], ...]:
    """Return functions in place of those in PATCHED; `trained` gets the windows as they are trained."""

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

    return run_window, write_window


@contextmanager
def stub_training(returns: Returns) -> Iterator[None]:
    """Let every window have these returns instead of training."""
    train, write = stubs(returns, [])
    with patch.object(*PATCHED[0], train), patch.object(*PATCHED[1], write):
        yield


def run_to_cap(spec: StudySpec) -> str:
    """Run a study to its cap in this process; return its name."""
    with closing(open_study(spec)) as context:
        market = market_builder(context)
        enroll(context, market(spec))
        while isinstance(found := claim(context, 0, market), Claim):
            execute.perform(context, found, lambda: False)
    return spec.name


def market_and_own(spec: StudySpec, window: Window, seed: int, volatility: float) -> FloatArray:
    """Return noise that has a correlation of .5 with that of every other trial of the study."""
    sessions = window.test_sessions[1] - window.test_sessions[0]
    of_market = np.random.default_rng([spec.seed, window.dates.test_start.toordinal()])
    drawn = np.stack([each.standard_normal(sessions) for each in (of_market, np.random.default_rng(seed))])
    return np.asarray(volatility * drawn.sum(axis=0) / np.sqrt(2))
