"""Batch mode with real worker processes: one worker, four, and four that are killed and resumed by one."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from optimize.study.spec import StudySpec, WorkerSpec
from tests.optimize.study.forks import finish_forked, forked_study
from tests.optimize.study.processes import kill, leased, said, until
from tests.optimize.study.studies import rows, small_spec

pytestmark = pytest.mark.slow
CAP = 5
BATCHES = (
    "worker.mode=batch",
    "worker.batch_size=2",
    "sampler.n_startup_trials=2",
    "pruner=median",
    "pruner.n_startup_trials=2",
    "pruner.exempt_share=0",
    "window.count=3",
    "score.repeats=2",
)


def test_one_worker_four_and_an_interrupted_study_try_the_same(tmp_path: Path) -> None:
    one, four, broken = (batched(tmp_path, name) for name in ("one", "four", "broken"))
    assert finish_forked(tmp_path, workers(one, 1), *BATCHES) == 0, said(tmp_path)
    assert finish_forked(tmp_path, workers(four, 4), *BATCHES) == 0, said(tmp_path)
    interrupt(tmp_path, workers(broken, 4))
    assert finish_forked(tmp_path, workers(broken, 1), *BATCHES) == 0, said(tmp_path)
    sequence = told(one)
    assert {state for _, state, _, _ in sequence} <= {"COMPLETE", "PRUNED"}
    assert [number for number, _, _, _ in sequence] == list(range(CAP))
    assert told(four) == sequence
    assert told(broken) == sequence
    assert measured(one) == measured(four) == measured(broken)
    assert said(tmp_path).count("no more than so many of 4 workers busy") == 2


def interrupt(folder: Path, spec: StudySpec) -> None:
    """Kill the study and its workers after its first batch, and after a window of a later one."""
    done = "SELECT COUNT(*) FROM trials t JOIN studies s USING (study_id) WHERE study_name = 'broken'"
    windows = "SELECT COUNT(*) FROM wf_windows JOIN wf_runs USING (run_uuid) WHERE state = 'RUNNING' AND "
    with forked_study(folder, spec, *BATCHES) as supervisor:
        until(lambda: rows(spec, f"{done} AND state <> 'RUNNING'") >= [(2,)], "the first batch")
        until(lambda: rows(spec, f"{windows} study_name = 'broken'") >= [(1,)], "a window of a later one")
        victims = leased(spec)
        for pid in victims.values():
            kill(pid)
        supervisor.kill()


def batched(folder: Path, name: str) -> StudySpec:
    return small_spec(folder, name=name, n_trials=CAP)


def workers(spec: StudySpec, count: int) -> StudySpec:
    return dataclasses.replace(spec, worker=WorkerSpec(count=count))


def told(spec: StudySpec) -> list[tuple[Any, ...]]:
    """Return number, state, value and parameter of each trial."""
    return rows(
        spec,
        "SELECT t.number, t.state, v.value, p.param_value FROM trials t JOIN studies s USING (study_id) "
        "LEFT JOIN trial_values v USING (trial_id) JOIN trial_params p USING (trial_id) "
        "WHERE s.study_name = :name ORDER BY t.number",
        name=spec.name,
    )


def measured(spec: StudySpec) -> list[tuple[Any, ...]]:
    """Return the result of each window and repeat of each trial."""
    return rows(
        spec,
        "SELECT r.trial_number, w.window, w.repeat, w.sharpe, w.total_return, w.trades FROM wf_windows w "
        "JOIN wf_runs r USING (run_uuid) WHERE r.study_name = :name AND r.state IN ('COMPLETE', 'PRUNED') "
        "ORDER BY 1, 2, 3",
        name=spec.name,
    )
