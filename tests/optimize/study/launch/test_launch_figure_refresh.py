"""Figures on the dashboard while a study runs."""

import io
import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path

import pytest
from rich.console import Console

from optimize.study.dashboard.attach_missing import DRAWN
from optimize.study.launch.figure_refresh import FigureRefresh
from optimize.study.launch.supervise import supervise
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.forks import FORK
from tests.optimize.study.processes import until
from tests.optimize.study.studies import opened, play, rows, small_spec

MODULE = "optimize.study.launch"
SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize("starter", [FORK, pytest.param(SPAWN, marks=pytest.mark.slow)])
def test_a_launch_has_figures_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: SpawnContext | ForkContext
) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 2)
    said = io.StringIO()

    def run(self: Supervisor, show: Callable[[], None]) -> None:
        def drawn() -> bool:
            show()
            return context.study.user_attrs.get(DRAWN) == 2

        until(drawn, "the figures of two trials")

    refresh = partial(FigureRefresh, interval_s=0.0, starter=starter)
    monkeypatch.setattr(f"{MODULE}.supervise.FigureRefresh", refresh)
    monkeypatch.setattr(Supervisor, "run", run)
    supervise(context, Console(file=said), windows=2)
    figures = "SELECT COUNT(*) FROM study_system_attributes WHERE key LIKE 'dashboard:plot_data:equity%'"
    assert rows(context.spec, figures) > [(0,)]
    assert "figures" not in said.getvalue()


def test_a_refresh_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 1)

    def refuse(again: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("optimize.study.dashboard.attach_missing.attach_study_report", refuse)
    lines: list[str] = []
    refresh = FigureRefresh(context, lines.append, interval_s=0.0, starter=FORK)
    for _ in range(2):
        refresh._due = 0.0
        refresh.poll()
        assert refresh.process is not None
        refresh.process.join()
        refresh.poll()
    assert lines == [
        "small: its figures could not be drawn (No space left on device); `walkforge dashboard` draws them"
    ]
    refresh.close()


def test_a_refresh_that_is_killed_is_one_line_and_waits_for_its_interval(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 1)
    lines: list[str] = []
    refresh = FigureRefresh(context, lines.append, interval_s=0.0, starter=FORK)
    refresh.poll()
    child = refresh.process
    assert child is not None
    child.kill()
    child.join()
    refresh.interval_s = 1000.0
    refresh.poll()
    refresh.poll()
    assert refresh.process is None
    assert lines == ["small: its figures could not be drawn (exit code -9); `walkforge dashboard` draws them"]
    refresh.close()


def test_no_process_is_started_without_new_trials(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    refresh = FigureRefresh(context, print, interval_s=0.0)
    refresh.poll()
    assert refresh.process is None
    play(context, 1)
    context.study.set_user_attr(DRAWN, 1)
    refresh.poll()
    assert refresh.process is None
    refresh.close()
