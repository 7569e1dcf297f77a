"""A launch of finalists that is killed at any stage goes on without a loss or a second opening."""

import importlib
import multiprocessing
import os
import shutil
import signal
from typing import Any

import pytest

from optimize.results.states import RunState
from optimize.study.finalists.run import FinalistSettings, run_finalists
from optimize.study.spec import StudySpec
from tests.optimize.study.finalists.test_finalists_run import (
    in_this_process,
    openings,
    place_of,
    plan_of,
    returns_of,
    work,
)
from tests.optimize.study.studies import rows

FINALISTS = "optimize.study.finalists"
STAGES = (  # function within which the process dies, and at which of its calls
    (f"{FINALISTS}.retrain", "save_finalist_window", 2),
    (f"{FINALISTS}.retrain", "finish_finalist", 1),
    (f"{FINALISTS}.stress", "save_stress", 3),
    (f"{FINALISTS}.ranking", "save_finalists", 1),
    (f"{FINALISTS}.holdout", "log_opening", 1),
    (f"{FINALISTS}.holdout", "_result", 2),
    (f"{FINALISTS}.holdout", "score_opening", 1),
)


def die(settings: FinalistSettings, module: str, function: str, calls: int) -> None:
    """Launch the finalists in this process, which kills itself once a function has run for the nth time."""
    place = importlib.import_module(module)
    real, left = getattr(place, function), [calls]

    def then_killed(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, function, then_killed)
    run_finalists(settings, lambda line: None)


def test_a_launch_that_is_killed_at_every_stage_loses_nothing_and_opens_the_holdout_once(
    study: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    place = place_of(study)
    work(study, place, plan_of(study, place, seeds=2, top_n=1))
    whole = returns_of(place, study.name)
    with place.engine.begin() as conn:
        for table in ("wf_finalist_runs", "wf_finalist_stress"):
            conn.exec_driver_sql(f"DELETE FROM {table}")
    place.engine.dispose()
    shutil.rmtree(study.folder / "finalists")
    settings = FinalistSettings(
        study.name, top_n=1, seeds=2, output_dir=study.output_dir, database=study.database, holdout=True
    )
    for stage in STAGES:
        process = multiprocessing.get_context("fork").Process(target=die, args=(settings, *stage))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, stage
    found = run_finalists(settings, lambda line: None)
    assert {run.state for run in found.runs} == {RunState.COMPLETE}
    assert len(found.holdout) == len(found.runs) == 2
    assert returns_of(place, study.name) == whole
    assert len(found.stress) == 2 * 5
    (opening,) = openings(study)
    scores = {each.run_uuid: each.score for each in found.holdout}
    assert opening[4] == scores[str(found.finalists[0].run_uuid)]
    assert rows(study, "SELECT COUNT(*) FROM wf_finalist_runs") == [(2,)]
    place.engine.dispose()
