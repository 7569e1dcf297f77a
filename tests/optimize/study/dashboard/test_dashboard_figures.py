"""Figures of a study after every end of a launch, and on first reading."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.trial import Trial
from optuna_dashboard import get_note
from sqlalchemy import event

from optimize.results.queries import without_note
from optimize.search.storage import trial_id
from optimize.study.context import StudyContext
from optimize.study.dashboard.attach import (
    REPORTS_LOCK,
    TOP,
    artifact_store,
    attach_reports,
    attach_study_report,
)
from optimize.study.dashboard.attach_missing import DRAWN, attach_figures, attach_missing, attaching
from optimize.study.shared_folder import ARTIFACTS
from optimize.study.spec import StudySpec
from optimize.study.workers.supervisor import Supervisor
from tests.optimize.study.forks import forked_study
from tests.optimize.study.module_names import list_modules
from tests.optimize.study.processes import leased, said, until
from tests.optimize.study.studies import opened, play, rows, small_spec

COMPLETE = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
MODULE = "optimize.study.dashboard.attach_missing"
EQUITY = "SELECT COUNT(*) FROM study_system_attributes WHERE key LIKE 'dashboard:plot_data:equity%'"


def drawn(spec: StudySpec) -> list[tuple[str]]:
    """Return how many complete trials the figures show."""
    return rows(spec, "SELECT value_json FROM study_user_attributes WHERE key = :key", key=DRAWN)


def saved(spec: StudySpec) -> set[str]:
    """Return the names of the figures on the page of the study."""
    keys = rows(spec, "SELECT key FROM study_system_attributes WHERE key LIKE 'dashboard:plot_data:%'")
    return {key.split(":")[2] for (key,) in keys}


def test_a_launch_that_was_stopped_leaves_figures_of_what_it_finished(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=500)
    with forked_study(tmp_path, spec) as supervisor:
        until(lambda: bool(leased(spec)), "a trial to start")  # before that there are no tables
        until(lambda: rows(spec, COMPLETE) >= [(2,)], "two complete trials")
        os.killpg(supervisor.pid or 0, signal.SIGTERM)
        supervisor.join()
        assert supervisor.exitcode == 1, said(tmp_path)
    ((complete,),) = rows(spec, COMPLETE)
    assert 2 <= complete < 500
    assert drawn(spec) == [(str(complete),)]
    assert rows(spec, EQUITY) > [(0,)]


def test_reading_draws_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = opened(small_spec(tmp_path))
    url, folder, lines = context.spec.database.url, context.spec.output_dir, list[str]()
    attach_missing(url, folder, lines.append)
    assert drawn(context.spec) == []  # there is nothing to draw
    play(context, 2)
    attach_missing(url, folder, lines.append)
    assert drawn(context.spec) == [("2",)]
    assert rows(context.spec, EQUITY) > [(0,)]
    assert {"equity", "windows", "costs", "best", "drawdown"} <= saved(context.spec)
    assert rows(context.spec, "SELECT as_of_trials, n_tries, n_held FROM wf_luck_tests") == [(2, 2, 2)]
    assert get_note(context.study).startswith("- verdict: ")

    def refuse(again: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(f"{MODULE}.attach_study_report", refuse)
    attach_missing(url, folder, lines.append)
    assert lines == []  # they are up to date, so that nothing is drawn
    play(context, 1)
    attach_missing(url, folder, lines.append)
    assert lines == [
        "small: its figures could not be drawn (No space left on device); `walkforge dashboard` draws them"
    ]
    assert drawn(context.spec) == [("2",)]


def noted(context: StudyContext) -> list[int]:
    with context.engine.connect() as conn:
        waiting = without_note(conn, context.spec.name)
    return [number for (number,) in rows(context.spec, "SELECT number FROM trials") if number not in waiting]


def test_a_launch_reports_the_best_trials_and_a_reader_the_rest(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path, n_trials=TOP + 2))
    play(context, TOP + 2)
    assert noted(context) == []  # no worker writes a note
    attach_figures(context, print)
    scores = dict(rows(context.spec, "SELECT trial_number, score FROM wf_runs"))
    assert set(noted(context)) == set(sorted(scores, key=lambda number: -scores[number])[:TOP])
    attach_missing(context.spec.database.url, context.spec.output_dir, print, most=1)
    assert len(noted(context)) == TOP + 1
    attach_missing(context.spec.database.url, context.spec.output_dir, print)
    assert len(noted(context)) == TOP + 2


def test_reports_of_many_trials_read_the_attributes_of_the_study_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(small_spec(tmp_path, n_trials=3))
    play(context, 3)
    reads: list[int] = []
    read = RDBStorage.get_study_system_attrs

    def counted(storage: RDBStorage, study_id: int) -> dict[str, Any]:
        reads.append(study_id)
        return read(storage, study_id)

    monkeypatch.setattr(RDBStorage, "get_study_system_attrs", counted)
    assert attach_reports(context) == 3
    assert len(reads) == 1
    assert len(noted(context)) == 3
    numbers = [trial.number for trial in context.study.get_trials(deepcopy=False)]
    ids = [trial_id(context.storage, context.spec.name, number) for number in numbers]
    assert all("walkforge replay" in get_note(Trial(context.study, each)) for each in ids)


def test_no_report_is_begun_after_the_page_is_closed(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 2)
    looks = iter([False, True])
    assert attach_reports(context, ended=lambda: next(looks)) == 1
    assert len(noted(context)) == 1


def test_one_process_at_a_time_attaches_reports(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 1)
    artifact_store(context.spec.output_dir)
    with FileLock(Path(context.spec.output_dir) / ARTIFACTS / REPORTS_LOCK):
        assert attach_reports(context) == 0
    assert attach_reports(context) == 1


def test_an_open_page_reports_trials_that_finish_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.REPORT_POLL_S", 0.05)
    context = opened(small_spec(tmp_path))
    with attaching(context.spec.database.url, context.spec.output_dir, print):
        play(context, 1)
        until(lambda: noted(context) == [0], "the note")


@pytest.mark.slow  # a worker as a launch starts it, from the forkserver
def test_a_worker_loads_neither_pictures_nor_the_dashboard(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, n_trials=1)
    context = opened(spec)
    Supervisor(context, partial(list_modules, tmp_path)).run(lambda: None)
    assert rows(spec, COMPLETE) == [(1,)]
    loaded = {name.partition(".")[0] for name in (tmp_path / "modules.txt").read_text().split()}
    assert "stable_baselines3" in loaded
    assert not loaded & {"matplotlib", "plotly", "optuna_dashboard"}


def test_the_report_of_a_study_reads_all_windows_in_one_query(tmp_path: Path) -> None:
    context = opened(small_spec(tmp_path))
    play(context, 3)
    read: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        read.extend([statement] if "FROM wf_windows" in statement else [])

    event.listen(context.engine, "before_cursor_execute", note)
    attach_study_report(context)
    assert len(read) == 1
    assert rows(context.spec, EQUITY) > [(0,)]
