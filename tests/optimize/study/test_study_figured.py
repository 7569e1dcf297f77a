"""Figures of a study after every end of a launch, and on first reading."""

import os
import signal
from pathlib import Path

import pytest

from optimize.study.pages import figured
from optimize.study.pages.figured import DRAWN, draw_missing
from optimize.study.spec import StudySpec
from tests.optimize.study.processes import leased, said, study_process, until
from tests.optimize.study.studies import opened, play, rows, small_spec

COMPLETE = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
EQUITY = "SELECT COUNT(*) FROM study_system_attributes WHERE key LIKE 'dashboard:plot_data:equity%'"


def drawn(spec: StudySpec) -> list[tuple[str]]:
    """Return how many complete trials the figures show."""
    return rows(spec, "SELECT value_json FROM study_user_attributes WHERE key = :key", key=DRAWN)


@pytest.mark.slow
def test_a_launch_that_was_stopped_leaves_figures_of_what_it_finished(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=500)
    with study_process(tmp_path, spec, "agent.total_timesteps=256") as supervisor:
        until(lambda: bool(leased(spec)), "a trial to start")  # before that there are no tables
        until(lambda: rows(spec, COMPLETE) >= [(2,)], "two complete trials")
        os.killpg(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait(60) == 1, said(tmp_path)
    ((complete,),) = rows(spec, COMPLETE)
    assert 2 <= complete < 500
    assert drawn(spec) == [(str(complete),)]
    assert rows(spec, EQUITY) > [(0,)]


def test_reading_draws_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = opened(small_spec(tmp_path))
    url, folder, lines = handle.spec.database.url, handle.spec.output_dir, list[str]()
    draw_missing(url, folder, lines.append)
    assert drawn(handle.spec) == []  # there is nothing to draw
    play(handle, 2)
    draw_missing(url, folder, lines.append)
    assert drawn(handle.spec) == [("2",)]
    assert rows(handle.spec, EQUITY) > [(0,)]

    def refuse(again: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(figured, "decorate_study", refuse)
    draw_missing(url, folder, lines.append)
    assert lines == []  # they are up to date, so that nothing is drawn
    play(handle, 1)
    draw_missing(url, folder, lines.append)
    assert lines == [
        "small: its figures could not be drawn (No space left on device); `walkforge dashboard` draws them"
    ]
    assert drawn(handle.spec) == [("2",)]
