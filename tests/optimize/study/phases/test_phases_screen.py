"""The screen of the timeframe phase: hopeless combinations leave the grid, once, and at least one stays."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from optimize.results.event_log import events, log_event
from optimize.results.timeframe_screen import ScreenedPair, TimeframeScreen, stored_screen
from optimize.search.spec import PhaseSpec, TimeframePhaseSpec
from optimize.study.context import open_study
from optimize.study.launch.run import run_study
from optimize.study.phases import screen as screening
from optimize.study.phases.run import timeframe_study
from optimize.study.phases.screen import judge_screen, screen_lines, screened
from optimize.study.spec import StudySpec
from optimize.walkforward.inner_probe import InnerProbe, Inputs
from tests.optimize.study.forks import forking
from tests.optimize.study.studies import opened, rows, small_spec


def with_screen(folder: Path, screen: str = "probe") -> StudySpec:
    grid = TimeframePhaseSpec(n_trials=8, timeframes=["1h", "4h"], lookbacks=[2, 3], screen=screen)
    return small_spec(folder, name="two", n_trials=1, phase=PhaseSpec("timeframe_only", grid))


def probed(*sharpes: float | None, error: float = 1.0) -> list[InnerProbe]:
    pairs = [("1h", 2), ("1h", 3), ("4h", 2), ("4h", 3)]
    return [
        InnerProbe(
            Inputs(*pair), 100, sharpe, error, sharpe, 0.0, None if sharpe is not None else "too short"
        )
        for pair, sharpe in zip(pairs, sharpes, strict=True)
    ]


def test_a_timeframe_without_hope_leaves_the_grid_and_the_cap_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = with_screen(tmp_path)
    found = probed(0.5, -2.5, -3.0, -2.1)
    monkeypatch.setattr(screening, "probe_inputs", lambda *_: iter(found))
    told: list[str] = []
    left, screen = screened(spec, told.append)
    grid = left.phase.timeframe
    assert (grid.timeframes, grid.lookbacks, grid.n_trials) == (["1h"], [2], 2)
    assert screen is not None
    assert [each.hopeless for each in screen.pairs] == [False, True, True, True]
    assert "drops 3 of 4 combinations" in told[0]
    assert told[1:] == [f"two.timeframe: {line}" for line in screen_lines(screen)[1:]]
    assert timeframe_study(left).n_trials == 2


def test_without_a_screen_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = with_screen(tmp_path, "none")
    monkeypatch.setattr(screening, "probe_inputs", lambda *_: pytest.fail("it measured"))
    assert screened(spec, print) == (spec, None)


def test_pairings_unmeasured_combinations_and_the_best_one_stay() -> None:
    crossed = judge_screen(probed(1.0, -3.0, -3.0, 1.0))
    assert (crossed.timeframes, crossed.lookbacks) == (("1h", "4h"), (2, 3))
    assert sum("kept for its pairing" in line for line in screen_lines(crossed)) == 2
    short = judge_screen(probed(-3.0, -3.0, -3.0, None))
    assert (short.timeframes, short.lookbacks) == (("4h",), (3,))
    lost = judge_screen(probed(-4.0, -2.5, -3.0, -3.5))
    assert (lost.timeframes, lost.lookbacks) == (("1h",), (3,))
    flat = judge_screen(probed(0.0, 0.0, 0.0, 0.0, error=0.0))
    assert (flat.timeframes, flat.lookbacks) == (("1h",), (2,))


def test_a_launch_that_goes_on_takes_the_stored_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = with_screen(tmp_path)
    pair = ScreenedPair("4h", 3, 1.0, 2.0, hopeless=False)
    stored = TimeframeScreen((pair,), ("4h",), (3,))
    context = opened(dataclasses.replace(spec, name="two.timeframe", phase=PhaseSpec()))
    with context.engine.begin() as conn:
        log_event(conn, "two.timeframe", "screened", stored)
        assert stored_screen(conn, "two.timeframe") == stored
    monkeypatch.setattr(screening, "probe_inputs", lambda *_: pytest.fail("it measured again"))
    left, found = screened(spec, print)
    assert found == stored
    assert (left.phase.timeframe.timeframes, left.phase.timeframe.n_trials) == (["4h"], 2)


def test_the_study_runs_the_grid_that_is_left_and_a_second_launch_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = with_screen(tmp_path)
    measured = probed(-2.5, -2.5, 0.5, -2.5)
    monkeypatch.setattr(screening, "probe_inputs", lambda *_: iter(measured))
    monkeypatch.setattr("optimize.study.launch.supervise.Supervisor", forking)
    with (tmp_path / "console.txt").open("w") as shown:
        for _ in range(2):
            assert run_study(spec, Console(file=shown, width=200)) == "two.timeframe"
            monkeypatch.setattr(screening, "probe_inputs", lambda *_: pytest.fail("it measured again"))
    assert rows(spec, "SELECT COUNT(*) FROM trials") == [(2,)]
    context = open_study(timeframe_study(spec))
    with context.engine.connect() as conn:
        (event,) = events(conn, "two.timeframe", TimeframeScreen)
    context.close()
    assert event.event.timeframes == ("4h",)
    text = (tmp_path / "console.txt").read_text()
    assert text.count("the linear probe drops 3 of 4 combinations") == 1
