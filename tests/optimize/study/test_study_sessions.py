"""Studies on exchange sessions: spans of training and evaluation, and refused settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from envs.costs import CostSpec
from envs.episodes import SessionEpisodes, session_spans
from envs.spec import EnvSpec
from envs.types import IntArray
from optimize.data.calendars.spec import SessionSpec
from optimize.data.sessions import session_table
from optimize.data.spec import DataSpec
from optimize.errors import BadInputError
from optimize.evaluate.rollout import Evaluation, rollout
from optimize.evaluate.windows import WindowSpec
from optimize.search.spec import PhaseSpec, TimeframePhaseSpec
from optimize.study.launch.run import run_study
from optimize.study.spec import StudySpec
from optimize.walkforward import run as trial_module
from optimize.walkforward.markets import WindowedMarket, build_windowed_market
from optimize.walkforward.run import run_window
from tests.optimize.data.samples import bars_at, stamp
from tests.optimize.study.studies import small_spec

FIRST, LAST = "2023-10-02", "2023-12-08"  # a clock change, Thanksgiving and the half day after it
STEP_NS = 15 * 60 * 10**9
INTRADAY = EnvSpec(rebalance_band=0.0, episode="session")


@pytest.fixture(scope="module")
def quarters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 15-minute bars of a stock."""
    table = session_table("XNYS", stamp(FIRST), stamp(LAST))
    inside = (table.date >= np.datetime64(FIRST)) & (table.date <= np.datetime64(LAST))
    starts = [
        np.arange(opened, closed, STEP_NS)
        for opened, closed in zip(table.open_ns[inside], table.close_ns[inside], strict=True)
    ]
    bars = bars_at(np.concatenate(starts), "15m")
    prices = {name: getattr(bars, name)[:, 0] for name in ("open", "high", "low", "close", "volume")}
    path = tmp_path_factory.mktemp("stock") / "stock.parquet"
    pd.DataFrame({"timestamp": pd.DatetimeIndex(bars.timestamp, tz="UTC"), **prices}).to_parquet(path)
    return path


def stock_spec(folder: Path, quarters: Path, timeframe: str = "15m", **changes: Any) -> StudySpec:
    data = DataSpec(provider="file", path=str(quarters), timeframe=timeframe)
    return small_spec(folder, **({"data": data, "env": INTRADAY, "n_trials": 1} | changes))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[IntArray, IntArray]]:
    """Record the spans that training draws."""
    spans: list[tuple[IntArray, IntArray]] = []
    draw = SessionEpisodes.draw

    def recording(self: SessionEpisodes, count: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        spans.append(draw(self, count, rng))
        return spans[-1]

    monkeypatch.setattr(SessionEpisodes, "draw", recording)
    return spans


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    """Record the net evaluations of test spans."""
    runs: list[Evaluation] = []

    def recording(*args: Any, **options: Any) -> tuple[Evaluation, ...]:
        runs.extend(result := rollout(*args, **options))
        return result

    monkeypatch.setattr(trial_module, "rollout", recording)
    return runs


def ground_of(spec: StudySpec) -> WindowedMarket:
    return build_windowed_market(spec, None)


def test_training_draws_whole_sessions_of_its_span_and_never_a_later_one(
    tmp_path: Path, quarters: Path, drawn: list[tuple[IntArray, IntArray]]
) -> None:
    spec = stock_spec(tmp_path, quarters)
    windowed = ground_of(spec)
    session = windowed.market.session
    for window in windowed.windows:
        drawn.clear()
        run_window(spec, windowed, window, seed=3)
        first, last = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        allowed = zip(*session_spans(session, window.train_first, window.train_last), strict=True)
        assert set(zip(first.tolist(), last.tolist(), strict=True)) <= {(int(a), int(b)) for a, b in allowed}
        assert window.train_first <= first.min()
        assert last.max() <= window.train_last < window.test_first - window.purge_bars
        assert session[last.max()] < session[window.test_first] - 1  # the purge cuts the last session
        assert len(np.unique(first)) > 1


def test_evaluation_visits_every_test_session_once_in_order(
    tmp_path: Path, quarters: Path, evaluated: list[Evaluation]
) -> None:
    spec = stock_spec(tmp_path, quarters)
    windowed = ground_of(spec)
    for window in windowed.windows:
        evaluated.clear()
        run_window(spec, windowed, window, seed=3)
        bar = evaluated[0].bar
        assert bar.tolist() == list(range(window.test_first, window.test_last + 1))
        visited = windowed.market.session[bar]
        assert np.unique(visited).tolist() == list(range(*window.test_sessions))
        assert np.all(np.diff(visited) >= 0)
        last = np.append(visited[1:] != visited[:-1], True)
        assert np.all(evaluated[0].weight[last] == 0.0)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("trained before the refusal")

    monkeypatch.setattr(trial_module, "train", train)


def refusal(spec: StudySpec) -> str:
    with pytest.raises(BadInputError) as caught:
        run_study(spec, Console(quiet=True))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("timeframe", ["12h", "1d"])
def test_a_searched_timeframe_that_cannot_end_flat_is_refused_before_the_first_trial(
    tmp_path: Path, quarters: Path, timeframe: str
) -> None:
    grid = TimeframePhaseSpec(n_trials=4, timeframes=["30m", timeframe], lookbacks=[2])
    spec = stock_spec(tmp_path, quarters, phase=PhaseSpec(kind="two", timeframe=grid))
    line = refusal(spec)
    assert line.startswith(f"data.timeframe={timeframe} leaves nothing to trade on XNYS")
    assert "session.flat_overnight=false" in line


@pytest.mark.usefixtures("no_training")
def test_sessions_of_one_bar_are_no_episodes(tmp_path: Path, quarters: Path) -> None:
    window = WindowSpec(count=2, train_ratio=2.0, min_train_bars=5, min_test_bars=5)
    overnight = SessionSpec(flat_overnight=False)
    spec = stock_spec(tmp_path, quarters, "1d", session=overnight, window=window)
    line = refusal(spec)
    assert line.startswith("env.episode='session' is not allowed in window 0 at data.timeframe=1d")
    assert line.endswith("or env.episode=bars")


@pytest.mark.usefixtures("no_training")
def test_a_spread_that_the_data_lack_is_refused_before_the_first_trial(
    tmp_path: Path, quarters: Path
) -> None:
    assert "cost.spread_from_data=True" in refusal(
        stock_spec(tmp_path, quarters, cost=CostSpec(spread_from_data=True))
    )
